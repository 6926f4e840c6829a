"""Data sets: readers, protocols, images. Nothing here imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vbench.core import lazy

if TYPE_CHECKING:
    from vbench.data.base import Dataset, DatasetReader, Sample, Trial
    from vbench.data.open import open_dataset
    from vbench.data.protocols import all_protocols, default_protocol, parse_protocol

_HOMES = {
    "Dataset": "base",
    "DatasetReader": "base",
    "Sample": "base",
    "Trial": "base",
    "all_protocols": "protocols",
    "default_protocol": "protocols",
    "open_dataset": "open",
    "parse_protocol": "protocols",
}

__all__ = [
    "Dataset",
    "DatasetReader",
    "Sample",
    "Trial",
    "all_protocols",
    "default_protocol",
    "open_dataset",
    "parse_protocol",
]

__getattr__ = lazy(__name__, _HOMES)
