"""Victims as text: ``agw``, ``agw[embedding=pooled]``, ``./mine.py:Mine[depth=3]``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vbench.core.errors import BadInput, unknown_name
from vbench.core.settings import from_text, parse
from vbench.victims.base import Victim, default_options, option_names, read_option
from vbench.victims.registry import victims

AnyVictim = TypeVar("AnyVictim", str, "str | Victim")


@dataclass(frozen=True)
class VictimSpec:
    """A victim by registry name (or path) with constructor options, already of the right types."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The options that only choose what is ranked; the same weights serve all of them."""
        known = victims.load(self.name).SETTINGS
        return {name: value for name, value in self.options.items() if name in known}


def expand_victims(specs: Sequence[str | Victim]) -> list[VictimSpec | Victim]:
    """Read texts, replacing ``all`` by every known victim; keeps order, drops repeats, takes victims as is.

    Raises :class:`BadInput` for unknown names and options (nearest name) and for values that do not fit.
    """
    return [read_victim(one) if isinstance(one, str) else one for one in victim_names(specs)]


def victim_names(specs: Sequence[AnyVictim]) -> list[AnyVictim]:
    """The texts with ``all`` replaced by every known victim, in order, without repeats."""
    found: list[AnyVictim] = []
    for spec in specs:
        if isinstance(spec, str):
            found += victims.names() if spec == "all" else [spec]
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
    """Read one text; see :func:`expand_victims`."""
    name, given = parse(text, "victim")
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
    """The name of a victim, with the settings of its ranking that are not its defaults."""
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
