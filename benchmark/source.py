"""What tells one version of an attack's, a victim's or a reader's code from another.

vbench's own classes declare a number, which is raised when they do something else than before. Everybody
else's are told apart by their source. Not covered: files that code reads while it runs, and installed
packages other than the plugin's own.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from importlib.metadata import version
from typing import Any

from vbench.errors import BadInput
from vbench.live_code import LiveCode, assigned_by
from vbench.plugin_modules import Modules, modules_of
from vbench.plugins import is_own_class


def code_card(plugin: object) -> dict[str, Any]:
    """``{"version": N}`` for a class of vbench's own, ``{"source": 16 hexadecimal digits}`` for others.

    ``plugin`` is a class or an object of one. The source is that of the class's module and of every module
    that it imports, but for Python's, vbench's and other installed packages'; where there is no file, the
    bytecode. Code that was put into an object (``victim.forward = f``, a hook) or into one of vbench's own
    classes adds a "source" to the version. The adapter of a library names the library's version as well.
    Raises :class:`BadInput` for a file that changed after it was imported.
    """
    cls = plugin if isinstance(plugin, type) else type(plugin)
    own = is_own_class(cls)
    made_of = Modules() if own else modules_of(one for one in cls.__mro__ if _is_plugin(one))
    live = LiveCode(made_of.sources)
    told = live.of_class(cls) + ([] if plugin is cls else live.of_object(plugin))
    if not own:
        files = sorted((name, _hash(text)) for name, text in made_of.sources.values())
        builds_on = _versions(cls, made_of)
        return {"source": _digest([cls.__qualname__, files, builds_on, made_of.overwritten, told])}
    card = {"version": _number(cls)}
    if hasattr(cls, "library"):
        card["library"] = f"{cls.library} {version(cls.library)}"
    return {**card, "source": _digest(told)} if told else card


def attack_card(attack: Any) -> dict[str, Any]:
    """What names an attack in a configuration: its name, settings, code, and those of its members."""
    from vbench.attacks.battery import Battery

    members = attack.members() if isinstance(attack, Battery) else ()
    card = {"name": attack.name, "settings": _plain(attack), **code_card(attack)}
    return {**card, "members": [attack_card(member) for member in members]} if members else card


def victim_code(victim: Any) -> dict[str, Any]:
    """What names a victim's code in a configuration.

    "structure" is a hash over its layers and settings, left out for one of vbench's own that is as its
    options make it: a version says what that is. Victims inside it (members of a surrogate, a victim that is
    wrapped) are named with their own.
    """
    inner = [one for one in victim.modules() if one is not victim and _is_victim(one)]
    card = code_card(victim)
    if not is_own_class(type(victim)) or not (inner or _as_built(victim)):
        card["structure"] = _digest(_structure(victim))
    members = [{"name": one.name, **victim_code(one)} for one in inner]
    return {**card, "members": members} if members else card


def _as_built(victim: Any) -> bool:
    """Whether a victim of vbench's own has the layers and settings that its constructor makes."""
    try:
        built = type(victim)(**victim.describe())
    except Exception:  # options that somebody changed may suit no constructor
        return False
    return _structure(built) == _structure(victim)


def _is_plugin(base: type) -> bool:
    """Whether a base class is a plugin's: on the way to a class of vbench's, and none of them."""
    return not is_own_class(base) and any(map(is_own_class, base.__mro__))


def _number(cls: type) -> int:
    if "version" not in vars(cls):
        raise TypeError(f"{cls.__qualname__} of vbench declares no version")
    return vars(cls)["version"]


def _versions(cls: type, made_of: Modules) -> list[str]:
    """The classes of vbench's own that a plugin builds on, with their numbers."""
    imported = (getattr(sys.modules.get(module), name, None) for module, name in made_of.of_vbench)
    found = {one for one in (*cls.__mro__, *imported) if isinstance(one, type) and is_own_class(one)}
    return sorted(f"{one.__qualname__} {one.version}" for one in found if "version" in vars(one))


def _plain(attack: Any) -> dict[str, Any]:
    settings = attack.settings()
    for name, value in settings.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"attack '{attack.name}': setting '{name}' is {type(value).__name__}, which a record cannot "
                "hold; use numbers, text or tuples of them"
            ) from error
    return settings


def _is_victim(module: Any) -> bool:
    from vbench.victims.base import Victim

    return isinstance(module, Victim)


def _structure(victim: Any) -> list[Any]:
    """The layers of a victim with what they say of themselves, and the plain settings of its own modules."""
    found: list[Any] = [[name, repr(getattr(victim, name, None))] for name in _DECLARED]
    for place, module in victim.named_modules():
        said = re.sub(r" at 0x[0-9a-f]+", "", module.extra_repr())
        found.append([place, type(module).__qualname__, said])
        if not type(module).__module__.startswith("torch."):
            found += [[place, name, repr(value)] for name, value in _settings_of(module)]
    return found


#: What the benchmark reads of a victim beside what it returns.
_DECLARED = ("similarity", "resize_filter", "input_size", "stages", "forks")


def _settings_of(module: Any) -> list[tuple[str, Any]]:
    functions = [one for base in type(module).__mro__ for one in vars(base).values()]
    changed = set().union(*map(assigned_by, functions))
    plain = (bool, int, float, str, tuple)
    return [
        (name, value)
        for name, value in sorted(vars(module).items())
        if isinstance(value, plain) and not name.startswith("_") and name not in {"training", *changed}
    ]


def _hash(text: bytes) -> str:
    # The same file checked out on another system has other line ends.
    return hashlib.sha256(text.replace(b"\r\n", b"\n")).hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
