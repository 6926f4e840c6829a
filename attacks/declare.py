"""Writes ``catalogue.json``: facts about the built-in attacks, so that listing them does not import torch.

Run ``make catalogue`` after adding an attack or changing a setting, preset or text; a test compares the file
with the classes.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

import vbench.attacks
from vbench.attacks.base import Attack, Battery
from vbench.attacks.build import costs, named_settings
from vbench.attacks.libraries import LibraryAttack
from vbench.core.registry import classes_of, write_catalogue
from vbench.core.settings import build

FILE = Path(__file__).with_name("catalogue.json")


def declarations() -> dict[str, Any]:
    """Facts about every built-in attack, by name; JSON-able."""
    found = (cls for cls in classes_of(vbench.attacks, Attack) if not issubclass(cls, LibraryAttack))
    return json.loads(json.dumps({cls.name: _declared(cls) for cls in found}))


def _declared(cls: type[Attack]) -> dict[str, Any]:
    usual = cls()
    hints = typing.get_type_hints(cls, include_extras=True)
    schemas = {field.name: TypeAdapter(hints[field.name]).json_schema() for field in dataclasses.fields(cls)}
    members = usual.attacks() if isinstance(usual, Battery) else ()
    knowledge = _by_choice(cls, schemas, lambda attack: sorted(attack.knowledge))
    # What every choice knows; the defaults are among them.
    known = set(usual.knowledge).intersection(
        *(found for choices in knowledge.values() for found in choices.values())
    )
    return {
        "target": f"{cls.__module__}:{cls.__qualname__}",
        "summary": cls.summary,
        "paper": cls.paper,
        "kind": "battery" if members else "universal" if cls.universal else "per-image",
        "price": _price(usual, members),
        "version": cls.version,
        "universal": cls.universal,
        "needs": sorted(cls.needs),
        "norms": sorted(cls.norms),
        "defaults": usual.settings(),
        "schemas": schemas,
        # By the text that asks for it, such as "preset=paper,effort=published": what it changes.
        "presets": named_settings(cls, cls.name),
        "knowledge": sorted(known),
        # Choices that alone add knowledge, or let the attack change features.
        "knows_more": _by_choice(cls, schemas, lambda attack: sorted(set(attack.knowledge) - known)),
        "retrains": _by_choice(cls, schemas, lambda attack: getattr(attack, "retrains", False)),
        "tampers": _by_choice(cls, schemas, lambda attack: getattr(attack, "tampers", False)),
        # What each choice of a battery runs.
        "members": _by_choice(cls, schemas, _members),
    }


def _price(usual: Attack, members: tuple[Attack, ...]) -> dict[str, Any]:
    """The fields of :class:`vbench.attacks.registry.Price`."""
    needs = usual.needs.union(*(member.needs for member in members))
    sight = "white box" if "gradients" in needs else "black box" if needs else "nothing"
    found = [costs(member) for member in (members or (usual,))]
    price = {
        "knowledge": ", ".join([sight, *sorted(usual.knowledge)]),
        "gradients": sum(cost["gradients"] for cost in found),
        "queries": sum(cost["queries"] for cost in found),
        "fit": usual.universal,
        "fits": sum(cost["fits"] for cost in found),
    }
    return {**price, "gradients": price["fits"], "fits": 0} if usual.universal else price


def _members(attack: Attack) -> list[dict[str, Any]]:
    members = attack.attacks() if isinstance(attack, Battery) else ()
    return [{"name": member.name, "settings": member.settings()} for member in members]


def _by_choice(cls: type[Attack], schemas: dict[str, Any], ask: Any) -> dict[str, dict[str, Any]]:
    """Setting -> choice -> result of ``ask``, for choices with a non-empty result."""
    found: dict[str, dict[str, Any]] = {}
    for name, schema in schemas.items():
        for choice in schema.get("enum", ()):
            answer = ask(build(cls, cls.name, {name: choice}))
            if answer:
                found.setdefault(name, {})[choice] = answer
    return found


if __name__ == "__main__":
    write_catalogue(FILE, declarations())
