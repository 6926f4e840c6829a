"""Writes ``declared.json``: what the built-in attacks and victims declare, for readers that load no torch.

Run ``python -m vbench.reports.verify.declare`` after changing a parameter, a preset or an option; a test
compares the file with the classes.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from vbench.attacks.build import presets
from vbench.attacks.registry import attacks
from vbench.core.settings import build
from vbench.victims.base import default_options, option_names
from vbench.victims.catalogue import VICTIMS
from vbench.victims.registry import victims

FILE = Path(__file__).with_name("declared.json")


def declarations() -> dict[str, Any]:
    """Everything that :mod:`vbench.reports.verify.declared` reads, JSON-able."""
    found = {
        "attacks": {
            entry.name: _attack(attacks.load(entry.name))
            for entry in attacks.entries()
            if entry.origin == "vbench"
        },
        "victims": {name: _victim(victims.load(name)) for name in VICTIMS},
    }
    return json.loads(json.dumps(found))


def _attack(cls: Any) -> dict[str, Any]:
    usual = cls()
    hints = typing.get_type_hints(cls, include_extras=True)
    schemas = {field.name: TypeAdapter(hints[field.name]).json_schema() for field in dataclasses.fields(cls)}
    known = set(usual.knowledge)
    return {
        "version": cls.version,
        "universal": cls.universal,
        "needs": sorted(cls.needs),
        "norms": sorted(cls.norms),
        "defaults": usual.settings(),
        "schemas": schemas,
        "presets": {
            name: build(cls, cls.name, dict(given)).settings() for name, given in presets(cls).items()
        },
        "knowledge": sorted(known),
        # Where one choice alone brings more knowledge, or lets the attack change features.
        "knows_more": _by_choice(cls, schemas, lambda attack: sorted(set(attack.knowledge) - known)),
        "tampers": _by_choice(cls, schemas, lambda attack: getattr(attack, "tampers", False)),
        "members": [
            {"name": member.name, "settings": member.settings()}
            for member in (usual.members() if hasattr(usual, "members") else ())
        ],
    }


def _by_choice(cls: Any, schemas: dict[str, Any], ask: Any) -> dict[str, dict[str, Any]]:
    """Setting -> choice -> answer, for the choices with an answer that is not empty."""
    found: dict[str, dict[str, Any]] = {}
    for name, schema in schemas.items():
        for choice in schema.get("enum", ()):
            answer = ask(build(cls, cls.name, {name: choice}))
            if answer:
                found.setdefault(name, {})[choice] = answer
    return found


def _victim(cls: Any) -> dict[str, Any]:
    defaults = default_options(cls)
    return {
        "version": cls.version,
        "options": option_names(cls),
        "settings": {name: defaults.get(name) for name in cls.SETTINGS if name in option_names(cls)},
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(declarations(), indent=1) + "\n")
    print(f"written: {FILE}")
