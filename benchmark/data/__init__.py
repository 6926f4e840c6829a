"""Data sets: readers, protocols, images. Nothing here imports torch."""

from __future__ import annotations

from vbench.data.base import Dataset, Sample, Trial
from vbench.data.open import DatasetReader, open_dataset
from vbench.data.protocols import all_protocols, default_protocol, parse_protocol

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
