"""Builds victims from text: ``agw``, ``agw[embedding=pooled]``, ``./mine.py:Mine[depth=3]``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from vbench.core.errors import BadInput, unknown_name
from vbench.core.live_code import assigned_by
from vbench.core.plugins import is_own_class
from vbench.core.settings import from_text, parse
from vbench.core.source import code_card, digest_of
from vbench.victims.base import Victim, default_options, option_names, read_option
from vbench.victims.registry import victims

AnyVictim = TypeVar("AnyVictim", str, "str | Victim")


@dataclass(frozen=True)
class VictimSpec:
    """A victim by registry name (or path) with constructor options of the right types."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The options that only choose what is ranked and do not affect the weights."""
        known = victims.load(self.name).SETTINGS
        return {name: value for name, value in self.options.items() if name in known}


def expand_victims(specs: Sequence[str | Victim]) -> list[VictimSpec | Victim]:
    """Parse texts, replacing ``all`` by every known victim; keeps order, drops repeats, keeps victim objects.

    Raises :class:`BadInput` for unknown names and options (nearest name) and for values that do not fit.
    """
    return [read_victim(one) if isinstance(one, str) else one for one in victim_names(specs)]


def victim_names(specs: Sequence[AnyVictim]) -> list[AnyVictim]:
    """The texts with ``all`` replaced by every known victim, in order, without repeats."""
    found: list[AnyVictim] = []
    for spec in specs:
        if isinstance(spec, str):
            found += victims.names() if spec == "all" else [victims.canonical(spec)]
        else:
            found.append(_taken(spec))
    return list(dict.fromkeys(found))


def _taken(victim: object) -> Victim:
    if isinstance(victim, Victim):
        victims.check(type(victim), type(victim).__qualname__, getattr(victim, "name", None))
        return victim
    kind = f"the class {victim.__name__}; call it" if isinstance(victim, type) else type(victim).__name__
    raise BadInput(f"a victim is a name such as agw or a Victim (docs/victims.md), not {kind}")


def read_victim(text: str) -> VictimSpec:
    """Parse one text; see :func:`expand_victims`."""
    name, given = parse(victims.canonical(text), "victim")
    cls = victims.load(name)
    known = option_names(cls)
    for option in given:
        if option not in known:
            raise unknown_name(f"option of victim {name}", option, known)
    options = {
        option: read_option(cls, option, _read(value), f"victim {name}") for option, value in given.items()
    }
    return VictimSpec(name, options)


def victim_label(victim: Victim) -> str:
    """The name of a victim, with its non-default ranking settings."""
    defaults, found = default_options(type(victim)), victim.describe()
    changed = [
        f"{name}={str(found[name]).lower() if isinstance(found[name], bool) else found[name]}"
        for name in victim.SETTINGS
        if name in found and found[name] != defaults.get(name)
    ]
    return f"{victim.name}[{','.join(changed)}]" if changed else victim.name


def _read(value: str) -> Any:
    """Text as a Python value; ``64x32`` is a pair."""
    height, cross, width = value.partition("x")
    if cross and height.isdigit() and width.isdigit():
        return (int(height), int(width))
    return from_text(value)


#: Attributes that the benchmark reads from a victim.
_DECLARED = ("similarity", "resize_filter", "input_size", "stages", "forks")


def victim_code(victim: Any) -> dict[str, Any]:
    """Identifies a victim's code in a configuration.

    "structure" is a hash over its layers and settings, left out for an unmodified victim of vbench's own,
    which its version identifies. Victims inside it (members of a surrogate, a wrapped victim) have their own
    entries.
    """
    from vbench.victims.base import Victim

    inner = [one for one in victim.modules() if one is not victim and isinstance(one, Victim)]
    card = code_card(victim)
    if not is_own_class(type(victim)) or not (inner or _is_unmodified(victim)):
        card["structure"] = digest_of(_structure(victim))
    members = [{"name": one.name, **victim_code(one)} for one in inner]
    return {**card, "members": members} if members else card


def _is_unmodified(victim: Any) -> bool:
    """Whether one of vbench's own victims still has the layers and settings that its constructor makes."""
    try:
        made = _structure_made(type(victim), repr(victim.describe()), **victim.describe())
    except Exception:  # options changed by the caller may fit no constructor
        return False
    return made == _structure(victim)


_MADE: dict[tuple[type, str], list[Any]] = {}


def _structure_made(cls: type, described: str, **options: Any) -> list[Any]:
    """The structure of a victim with these options, built once: that takes as long as loading one."""
    if (cls, described) not in _MADE:
        _MADE[cls, described] = _structure(cls(**options))
    return _MADE[cls, described]


def _structure(victim: Any) -> list[Any]:
    """The layers of a victim with their ``extra_repr`` or code, and the plain settings of its own modules."""
    found: list[Any] = [[name, repr(getattr(victim, name, None))] for name in _DECLARED]
    for place, module in victim.named_modules():
        said = re.sub(r" at 0x[0-9a-f]+", "", module.extra_repr())
        found.append([place, type(module).__qualname__, said])
        if isinstance(code := getattr(module, "code", None), str):  # a traced or scripted module
            found.append([place, "code", code])
        if not type(module).__module__.startswith("torch."):
            found += [[place, name, _as_text(value)] for name, value in _settings_of(module)]
    return found


def _as_text(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        bits = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(bits.tobytes()).hexdigest()}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _settings_of(module: Any) -> list[tuple[str, Any]]:
    functions = [one for base in type(module).__mro__ for one in vars(base).values()]
    changed = set().union(*map(assigned_by, functions))
    plain = (bool, int, float, str, tuple, list, dict, torch.Tensor)
    return [
        (name, value)
        for name, value in sorted(vars(module).items())
        if isinstance(value, plain) and not name.startswith("_") and name not in {"training", *changed}
    ]
