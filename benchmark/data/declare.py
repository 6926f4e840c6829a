"""Writes ``catalogue.json``: what the built-in data sets declare. ``make catalogue`` runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import vbench.data
from vbench.core.catalogue import classes_of, write_catalogue
from vbench.data.base import DatasetReader

FILE = Path(__file__).with_name("catalogue.json")


def declarations() -> dict[str, Any]:
    """What every built-in data set says of itself, by name; JSON-able."""
    return {
        cls.name: {
            "target": f"{cls.__module__}:{cls.__qualname__}",
            "summary": cls.summary,
            "paper": cls.paper,
            "protocols": list(cls.protocols),
            "published": dict(cls.published),
        }
        for cls in classes_of(vbench.data, DatasetReader)
    }


if __name__ == "__main__":
    write_catalogue(FILE, declarations())
