"""The data sets by name: built in, installed, and given by path. Loads none of them.

``catalogue.json`` holds what the built-in ones declare, see :mod:`vbench.data.declare`.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from vbench.core.registry import Entry, Registry

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
)
