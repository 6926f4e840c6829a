"""What tells one version of an attack's, a victim's or a reader's code from another.

vbench's own classes declare a number, which is raised when they do something else than before. Everybody
else's are told apart by their source. Not covered: files that code reads while it runs, and installed
packages other than the plugin's own.
"""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.metadata import version
from typing import Any

from vbench.core.live_code import LiveCode
from vbench.core.plugin_modules import Modules, modules_of
from vbench.core.plugins import is_own_class


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
        return {"source": digest_of([cls.__qualname__, files, builds_on, made_of.overwritten, told])}
    card: dict[str, Any] = {"version": _number(cls)}
    if hasattr(cls, "library"):
        card["library"] = f"{cls.library} {version(cls.library)}"
    return {**card, "source": digest_of(told)} if told else card


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
    return sorted(f"{one.__qualname__} {vars(one)['version']}" for one in found if "version" in vars(one))


def _hash(text: bytes) -> str:
    # The same file checked out on another system has other line ends.
    return hashlib.sha256(text.replace(b"\r\n", b"\n")).hexdigest()


def digest_of(value: Any) -> str:
    """16 hexadecimal digits that follow from a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
