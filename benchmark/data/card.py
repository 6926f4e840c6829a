"""The part of a configuration that identifies the data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

import numpy as np

from vbench.data.base import Dataset, Sample
from vbench.data.images import Images


def data_card(
    dataset: Dataset,
    hashes: Callable[[Sequence[Sample]], Sequence[str]] | None = None,
    training: bool = False,
) -> dict[str, object]:
    """Names, protocol and hashes of the test data and, with ``training``, of the training data; JSON-able.

    "fingerprint" covers both test lists in order (each image's decoded pixels, identity, camera and
    modality), the ranking rule and the positions in all trials; "training" covers the training images
    likewise. The same pixels in another folder or file format give the same card. ``hashes`` returns the
    content hashes of images, by default :meth:`Images.hashes`; its exceptions pass through.
    """
    hashes = hashes or Images(dataset.root, quiet=True).hashes

    def listed(samples: Sequence[Sample]) -> list[object]:
        facts = zip(samples, hashes(samples), strict=True)
        return [[shown, sample.pid, sample.cam, sample.modality.value] for sample, shown in facts]

    trials = [
        [np.asarray(trial.query).tolist(), np.asarray(trial.gallery).tolist()] for trial in dataset.trials
    ]
    test = [dataset.metric, listed(dataset.query), listed(dataset.gallery), trials]
    reader = {"source": dataset.reader} if dataset.reader else {}
    card: dict[str, object] = {
        **reader,
        "name": dataset.name,
        "protocol": dataset.protocol,
        "split": dataset.split,
        "synthetic": dataset.synthetic,
        "fingerprint": _digest(test),
    }
    if training:
        card["training"] = _digest([listed(dataset.train_visible), listed(dataset.train_infrared)])
    return card


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
