"""Readers of data sets by name: installed, and given by path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vbench.core.registry import Registry
from vbench.data.protocols import LAYOUTS

if TYPE_CHECKING:
    from vbench.data.open import DatasetReader

#: vbench's own layouts have readers of their own; only sets from outside stand here.
datasets: Registry[DatasetReader] = Registry(
    "dataset", "vbench.data.open:DatasetReader", (), words=("synthetic", *LAYOUTS)
)
