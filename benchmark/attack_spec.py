"""Attacks as text: ``pgd``, ``pgd[steps=20]``, ``./mine.py:Mine[strength=3]``."""

from __future__ import annotations

import dataclasses
from typing import Any

from vbench.errors import BadInput
from vbench.parameters import build, read_settings
from vbench.registry import attacks

#: What ``all`` adds to every registered attack: attacks whose threat model is an option.
_ALSO = ("fsam_uap[level=feature]",)


def expand(specs: list[str]) -> list[str]:
    """Replace ``all`` by every known attack, at every level it has; keeps order, drops repeats."""
    expanded: list[str] = []
    for spec in specs:
        expanded += [*attacks.names(), *_ALSO] if spec == "all" else [spec]
    return list(dict.fromkeys(expanded))


def build_attack(spec: str, extra: dict[str, str] | None = None) -> Any:
    """Build the attack a text names, with ``extra`` settings on top.

    Raises :class:`BadInput` for unknown names and parameters (nearest name) and for values that do not fit.
    """
    name, settings = parse(spec)
    cls = attacks.load(name)
    return build(cls, getattr(cls, "name", name), {**settings, **(extra or {})})


def parse(spec: str) -> tuple[str, dict[str, str]]:
    """Split ``name[a=1,b=2]`` into the name and its settings; commas inside a value are kept.

    >>> parse("fsam_uap[stages=stem,layer1,level=feature]")
    ('fsam_uap', {'stages': 'stem,layer1', 'level': 'feature'})
    """
    name, bracket, rest = spec.partition("[")
    if not bracket:
        return name, {}
    if not rest.endswith("]"):
        raise BadInput(f"attack '{spec}': the settings in [...] are not closed")
    settings: list[str] = []
    for part in rest[:-1].split(","):
        if "=" in part or not settings:
            settings.append(part)
        elif part.strip():
            settings[-1] += f",{part}"
    return name, read_settings([setting for setting in settings if setting.strip()])


def label(attack: Any) -> str:
    """The shortest text that names an attack and its settings: only those that are not the defaults."""
    changed = []
    for field in dataclasses.fields(attack):
        value = getattr(attack, field.name)
        if value != field.default:
            shown = ",".join(value) if isinstance(value, tuple) else value
            changed.append(f"{field.name}={str(shown).lower() if isinstance(value, bool) else shown}")
    return f"{attack.name}[{','.join(changed)}]" if changed else attack.name
