"""What identifies data in a configuration."""

from __future__ import annotations

import hashlib
import json

from vbench.data.base import Dataset, Sample


def data_card(dataset: Dataset) -> dict[str, object]:
    """Names, protocol, and hashes over the paths of all training and of all test samples, JSON-able."""
    marker = (dataset.root / "vbench-synthetic.json").read_text() if dataset.synthetic else ""
    reader = {"source": dataset.reader} if dataset.reader else {}
    return {
        **reader,
        "name": dataset.name,
        "protocol": dataset.protocol,
        "split": dataset.split,
        "synthetic": dataset.synthetic,
        "training": _listing_hash((*dataset.train_visible, *dataset.train_infrared), marker),
        "fingerprint": _listing_hash((*dataset.query, *dataset.gallery), marker),
    }


def _listing_hash(samples: tuple[Sample, ...], marker: str) -> str:
    listing = json.dumps([sample.path for sample in samples]) + marker
    return hashlib.sha256(listing.encode()).hexdigest()[:16]
