"""Writes ``catalogue.json``: facts about the built-in victims, so that listing them does not import torch.

Run ``make catalogue`` after adding a victim or changing an option or text; a test compares the file with the
classes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import vbench.victims
from vbench.core.catalogue import classes_of, write_catalogue
from vbench.victims.base import Victim, default_options, option_names

FILE = Path(__file__).with_name("catalogue.json")
_OF_THE_DATA = ("num_classes", "input_size")


def declarations() -> dict[str, Any]:
    """Facts about every built-in victim, by name; JSON-able."""
    found = {cls.name: _declared(cls) for cls in classes_of(vbench.victims, Victim)}
    return json.loads(json.dumps(found))


def _declared(cls: Any) -> dict[str, Any]:
    """The fields of :class:`vbench.victims.registry.VictimFacts`."""
    full, defaults = cls(), default_options(cls)
    parameters = sum(parameter.numel() for parameter in full.parameters())
    return {
        "target": f"{cls.__module__}:{cls.__qualname__}",
        "summary": cls.summary,
        "paper": cls.paper,
        "parameters": round(parameters / 1e6, 1),
        "input_size": full.input_size,
        "embedding": full.embedding_dim,
        "full": _options(defaults),
        "thin": _options(cls(num_classes=5, **cls.THIN).describe()),
        "version": cls.version,
        "options": option_names(cls),
        "settings": {name: defaults.get(name) for name in cls.SETTINGS if name in option_names(cls)},
    }


def _options(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in _OF_THE_DATA}


if __name__ == "__main__":
    write_catalogue(FILE, declarations())
