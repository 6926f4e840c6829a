"""Attacks as text: ``pgd``, ``pgd[steps=20]``, ``./mine.py:Mine[strength=3]``."""

from __future__ import annotations

import dataclasses
from typing import Any

from vbench.parameters import build
from vbench.registry import attacks
from vbench.spec import parse

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
    name, settings = parse(spec, "attack")
    cls = attacks.load(name)
    return build(cls, getattr(cls, "name", name), {**settings, **(extra or {})})


def label(attack: Any) -> str:
    """The shortest text that names an attack and its settings: only those that are not the defaults."""
    changed = []
    for field in dataclasses.fields(attack):
        value = getattr(attack, field.name)
        if value != field.default:
            shown = ",".join(value) if isinstance(value, tuple) else value
            changed.append(f"{field.name}={str(shown).lower() if isinstance(value, bool) else shown}")
    return f"{attack.name}[{','.join(changed)}]" if changed else attack.name
