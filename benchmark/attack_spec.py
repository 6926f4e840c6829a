"""Attacks as text: ``pgd``, ``pgd[steps=20]``, ``metric_ifgsm[preset=original]``, ``./mine.py:Mine[a=3]``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from vbench.errors import BadInput, unknown_name
from vbench.parameters import build
from vbench.registry import attacks
from vbench.spec import parse

#: What ``all`` adds to every registered attack: attacks whose threat model is an option.
_ALSO = ("fsam_uap[level=feature]",)


def expand(specs: Sequence[Any]) -> list[Any]:
    """Replace ``all`` by every known attack, at every level it has; keeps order, drops repeats.

    A battery is not in it: it repeats attacks that are, and is for one side only. What is no text stays.
    """
    single = [entry.name for entry in attacks.entries() if entry.traits != "battery"]
    expanded: list[Any] = []
    for spec in specs:
        expanded += [*single, *_ALSO] if spec == "all" else [spec]
    return list(dict.fromkeys(expanded))


def build_attack(spec: Any, extra: Mapping[str, Any] | None = None) -> Any:
    """Build the attack a text names, with ``extra`` settings on top; an attack is taken as it is.

    The setting ``preset`` is reserved: it stands for the settings of that name in the class's ``PRESETS``,
    and settings given beside it override them. Raises :class:`BadInput` for unknown names, parameters and
    presets (nearest name) and for values that do not fit.
    """
    if not isinstance(spec, str):
        return _taken(spec, extra)
    name, settings = parse(spec, "attack")
    cls = attacks.load(name)
    owner = getattr(cls, "name", name)
    values: dict[str, Any] = {**settings, **(extra or {})}
    chosen = values.pop("preset", None)
    if chosen is not None:
        values = {**_preset(cls, owner, chosen), **values}
    return build(cls, owner, values)


def _taken(attack: Any, extra: Mapping[str, Any] | None) -> Any:
    from vbench.attacks.base import Attack

    if not isinstance(attack, Attack):
        raise BadInput(f"an attack is a text such as pgd[steps=20] or an Attack, not {_kind(attack)}")
    return build(type(attack), attack.name, {**vars(attack), **extra}) if extra else attack


def _kind(thing: Any) -> str:
    return f"the class {thing.__name__}; call it" if isinstance(thing, type) else type(thing).__name__


def presets(cls: type) -> Mapping[str, Mapping[str, Any]]:
    """The named settings that an attack class declares; none for most."""
    return getattr(cls, "PRESETS", {})


def _preset(cls: type, owner: str, chosen: str) -> Mapping[str, Any]:
    known = presets(cls)
    if not known:
        raise BadInput(f"attack '{owner}' has no presets")
    if chosen not in known:
        raise unknown_name(f"preset of {owner}", chosen, known)
    return known[chosen]


def preset_threat(spec: Any, extra: Mapping[str, Any] | None = None) -> Mapping[str, str]:
    """The side and budget that belong to the preset a text names, as fields of the threat model."""
    if not isinstance(spec, str):
        return {}
    name, settings = parse(spec, "attack")
    chosen = {**settings, **(extra or {})}.get("preset")
    return getattr(attacks.load(name), "PRESET_THREATS", {}).get(chosen, {})


def label(attack: Any) -> str:
    """The shortest text that names an attack and its settings: its preset, and what is not the default."""
    cls = type(attack)
    best = _changes(attack, {field.name: field.default for field in dataclasses.fields(cls)})
    for name, settings in presets(cls).items():
        named = [f"preset={name}", *_changes(attack, vars(build(cls, attack.name, dict(settings))))]
        best = min(best, named, key=len)
    return f"{attack.name}[{','.join(best)}]" if best else attack.name


def _changes(attack: Any, reference: Mapping[str, Any]) -> list[str]:
    """Settings of an attack that differ from others, as text."""
    changed = []
    for field in dataclasses.fields(attack):
        value = getattr(attack, field.name)
        if value != reference[field.name]:
            shown = ",".join(value) if isinstance(value, tuple) else value
            changed.append(f"{field.name}={str(shown).lower() if isinstance(value, bool) else shown}")
    return changed
