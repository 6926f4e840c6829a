"""What a data set hands to the benchmark: samples, trials and ranking rule; the class that reads one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from vbench.core.types import Modality, RankingRule

_MODALITIES = frozenset(modality.value for modality in Modality)


#: Written by ``vbench data synth`` at the root of what it writes.
SYNTHETIC_MARK = "vbench-synthetic.json"


@dataclass(frozen=True)
class Sample:
    """One image on disk.

    ``path`` is relative to the dataset's root; ``pid`` is the identity number in the published set; ``cam``
    the camera number (RegDB has no cameras: 1 is visible, 2 is infrared). NumPy integers become ints, the
    texts "visible" and "infrared" a :class:`Modality`.
    """

    path: str
    pid: int
    cam: int
    modality: Modality

    def __post_init__(self) -> None:
        for name in ("pid", "cam"):
            value = getattr(self, name)
            if isinstance(value, np.integer):
                object.__setattr__(self, name, int(value))
        # A text equals its enum member but is not the same object, so it would pass == and fail "is".
        if type(self.modality) is str and self.modality in _MODALITIES:
            object.__setattr__(self, "modality", Modality(self.modality))


@dataclass(frozen=True)
class Trial:
    """One trial: positions in the dataset's ``query`` and ``gallery`` lists, in ranking order."""

    name: str
    query: np.ndarray
    gallery: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """One dataset under one protocol.

    ``name`` is the layout ("sysu", "regdb", "llcm"); ``protocol`` the full protocol id that every result
    carries; ``metric`` the ranking rule, a ``protocol=`` of :func:`vbench.metrics.rank_metrics`.
    ``train_visible`` and ``train_infrared`` hold training samples; their labels are ``train_labels``, the
    rank of a pid among the sorted training pids (0 .. C-1). ``gallery`` is the union over all trials, each
    image once. ``split`` names the training identities ("sysu", "regdb/trial-3"): weights belong to a split.
    ``synthetic`` is True for data written by ``vbench data synth``. ``reader``: a hash of the code that read
    the set, empty for vbench's own readers. ``reduced``: whether queries of the protocol were left out.
    """

    name: str
    root: Path
    protocol: str
    metric: RankingRule
    split: str
    synthetic: bool
    train_visible: tuple[Sample, ...]
    train_infrared: tuple[Sample, ...]
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]
    trials: tuple[Trial, ...]
    notes: tuple[str, ...] = field(default=())
    reader: str = ""
    reduced: bool = False

    @property
    def query_modality(self) -> Modality:
        """Modality of every query image."""
        return self.query[0].modality

    @property
    def gallery_modality(self) -> Modality:
        """Modality of every gallery image."""
        return self.gallery[0].modality

    @property
    def train_labels(self) -> dict[int, int]:
        """pid -> label in 0 .. C-1, over both modalities, sorted by pid."""
        pids = sorted({sample.pid for sample in (*self.train_visible, *self.train_infrared)})
        return {pid: label for label, pid in enumerate(pids)}


def published_counts(identities: tuple[int, int], train: tuple[int, int], test: tuple[int, int]) -> dict:
    """:attr:`DatasetReader.published` from training and test identities, visible and infrared images."""
    counts = dict(zip(("training identities", "test identities"), identities, strict=True))
    for kind, images in (("training", train), ("test", test)):
        counts |= {f"{kind} images, {m.value}": count for m, count in zip(Modality, images, strict=True)}
    return counts


class DatasetReader(ABC):
    """Reads one data set from the folder that its owner ships; a plugin's stands under ``vbench.datasets``.

    ``protocols`` are the ids that it can be read under, the default first, each "name/..."; ``expected`` says
    what the folder holds, for the message when it does not; ``published`` the counts that ``vbench data
    verify`` compares with, such as "training identities".
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    protocols: ClassVar[tuple[str, ...]]
    expected: ClassVar[str]
    published: ClassVar[Mapping[str, int]] = {}

    @abstractmethod
    def read(self, root: Path, protocol: str) -> Dataset:
        """The set under ``root`` by one of :attr:`protocols`, without decoding an image."""


def is_synthetic(root: Path) -> bool:
    """Whether the folder was written by ``vbench data synth``."""
    return (root / SYNTHETIC_MARK).exists()


def layout_dataset(
    name: RankingRule,
    root: Path,
    protocol: str,
    train: Mapping[Modality, tuple[Sample, ...]],
    test: tuple[tuple[Sample, ...], tuple[Sample, ...], tuple[Trial, ...]],
    notes: Iterable[str],
    split: str = "",
) -> Dataset:
    """A set in a published layout, whose rule bears its name; ``test``: query, gallery and trials."""
    query, gallery, trials = test
    visible, infrared = (train[modality] for modality in Modality)
    facts = (name, root, protocol, name, split or name, is_synthetic(root))
    return Dataset(*facts, visible, infrared, query, gallery, trials, tuple(notes))
