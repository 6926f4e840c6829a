"""Data set readers of plugins: installed, or given by path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vbench.core.registry import Registry
from vbench.data.protocols import LAYOUTS

if TYPE_CHECKING:
    from vbench.data.open import DatasetReader

#: vbench's own layouts are not in it; :func:`vbench.data.open.open_dataset` reads those.
datasets: Registry[DatasetReader] = Registry(
    "dataset", "vbench.data.open:DatasetReader", (), words=("synthetic", *LAYOUTS)
)
