"""The data sets by name: built in, installed, and given by path. Loads none of them.

``catalogue.json`` holds what the built-in ones declare; ``make catalogue`` writes it.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vbench.core.registry import Entry, Registry, classes_of, write_catalogue

if TYPE_CHECKING:
    from vbench.data.base import DatasetReader

#: The built-in data sets by name, in the order of listings.
DATASETS: dict[str, dict[str, Any]] = json.loads(
    files("vbench.data").joinpath("catalogue.json").read_text(encoding="utf-8")
)

datasets: Registry[DatasetReader] = Registry(
    "dataset",
    "vbench.data.base:DatasetReader",
    [Entry(name, facts["target"], facts["summary"], facts["paper"]) for name, facts in DATASETS.items()],
    words=("synthetic",),
    aliases={"sysumm01": "sysu"},
)


FILE = Path(__file__).with_name("catalogue.json")


def declarations() -> dict[str, Any]:
    """What every built-in data set says of itself, by name; JSON-able."""
    import vbench.data
    from vbench.data.base import DatasetReader

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
