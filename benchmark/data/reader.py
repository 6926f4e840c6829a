"""Data sets from outside: what a reader must offer, and what is checked of what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np

from vbench.data.base import Dataset, Sample
from vbench.data.open import SYNTHETIC_MARK
from vbench.data.protocols import LAYOUTS
from vbench.errors import BadInput, unknown_name
from vbench.source import code_card


class DatasetReader(ABC):
    """A data set that vbench does not know itself; installed under the entry-point group ``vbench.datasets``.

    ``name`` must not be one of vbench's own. ``protocols`` are the ids it can be read under, the default
    first, each "name/..."; ``expected`` says what its folder holds, for the message when it does not.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    protocols: ClassVar[tuple[str, ...]]
    expected: ClassVar[str]

    @abstractmethod
    def read(self, root: Path, protocol: str) -> Dataset:
        """The set under ``root`` by one of :attr:`protocols`, without decoding an image."""


def read_with(reader: DatasetReader, root: Path, protocol: str | None = None) -> Dataset:
    """What ``reader`` finds under ``root``, checked; its first protocol when ``protocol`` is None.

    Raises :class:`BadInput`, naming the set, for a missing folder, an unknown protocol, and anything in
    the result that would make figures meaningless: test identities among the training ones, mixed modalities
    on one side, trials that point nowhere, paths that leave the folder, nothing to rank.
    """
    if reader.name in LAYOUTS:
        raise BadInput(f"dataset '{reader.name}' is vbench's own; give the reader another name")
    for known in reader.protocols:
        if not known.startswith(f"{reader.name}/"):
            raise BadInput(f"dataset '{reader.name}': protocol id '{known}' must start with '{reader.name}/'")
    chosen = reader.protocols[0] if protocol is None else protocol
    if chosen not in reader.protocols:
        raise unknown_name(f"protocol of '{reader.name}'", chosen, reader.protocols)
    if not root.is_dir():
        raise BadInput(f"{root} is no folder; '{reader.name}' expects one with {reader.expected}")
    dataset = reader.read(root, chosen)
    for problem in _problems(dataset, reader.name, chosen):
        raise BadInput(f"dataset '{reader.name}' under {root}: {problem}")
    return replace(dataset, reader=code_card(reader).get("source", ""))


def _problems(dataset: Dataset, name: str, protocol: str) -> list[str]:
    if (dataset.name, dataset.protocol) != (name, protocol):
        return [f"says that it is '{dataset.name}' under '{dataset.protocol}', asked was '{protocol}'"]
    # Ranking rules come with torch, which reading lists does without.
    from vbench.metrics.removal import PROTOCOLS

    if dataset.metric not in PROTOCOLS:
        return [f"unknown ranking rule '{dataset.metric}'; known: {', '.join(PROTOCOLS)}"]
    if dataset.synthetic and not (dataset.root / SYNTHETIC_MARK).is_file():
        return [f"is marked synthetic, which only data with {SYNTHETIC_MARK} at its root are"]
    lists = {
        "query": dataset.query,
        "gallery": dataset.gallery,
        "train_visible": dataset.train_visible,
        "train_infrared": dataset.train_infrared,
    }
    return [
        *(f"{part} is empty" for part, samples in lists.items() if not samples),
        *(problem for part, samples in lists.items() for problem in _bad_samples(part, samples)),
        *_shared_people(dataset),
        *_bad_trials(dataset),
    ]


def _bad_samples(part: str, samples: tuple[Sample, ...]) -> list[str]:
    modalities = {sample.modality for sample in samples}
    found = [f"{part} mixes modalities"] if len(modalities) > 1 else []
    outside = [sample.path for sample in samples if not _inside(sample.path)]
    if outside:
        found.append(f"{part}: '{outside[0]}' is no path inside the folder")
    paths = [sample.path for sample in samples]
    if len(set(paths)) != len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        found.append(f"{part} lists '{twice}' twice")
    return found


def _inside(text: str) -> bool:
    path = PurePosixPath(text)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in text


def _shared_people(dataset: Dataset) -> list[str]:
    train = {sample.pid for sample in (*dataset.train_visible, *dataset.train_infrared)}
    query, gallery = ({sample.pid for sample in side} for side in (dataset.query, dataset.gallery))
    both = sorted(train & (query | gallery))
    found = [f"identity {both[0]} is in training and in test ({len(both)} such)"] if both else []
    if not query & gallery:
        found.append("no query identity is in the gallery; there is nothing to rank")
    return found


def _bad_trials(dataset: Dataset) -> list[str]:
    if not dataset.trials:
        return ["has no trial"]
    lengths = {"query": len(dataset.query), "gallery": len(dataset.gallery)}
    for trial in dataset.trials:
        for part, length in lengths.items():
            index = np.asarray(getattr(trial, part))
            if index.size == 0 or not np.issubdtype(index.dtype, np.integer):
                return [f"trial '{trial.name}': {part} is empty or no list of positions"]
            if index.min() < 0 or index.max() >= length:
                return [f"trial '{trial.name}': {part} points beyond the {length} images there are"]
    return []
