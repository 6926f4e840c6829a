"""Class numbers in list files, kept apart from the identities of test people."""

from __future__ import annotations

from collections.abc import Iterable

from vbench.data.base import Sample
from vbench.data.listings import Line
from vbench.types import Modality

#: RegDB and LLCM number their training classes from 0 on, independently of the test identities. Without
#: this shift two different people would carry the same pid. Ranks, hence training labels, stay the same.
TRAIN_PID_OFFSET = 10_000


def first_training_pid(tested: Iterable[int]) -> int:
    """The pid of training class 0: :data:`TRAIN_PID_OFFSET`, or more where test identities reach that far."""
    return max(TRAIN_PID_OFFSET, 1 + max(tested, default=0))


def training_samples(lines: Iterable[Line], cam: int, modality: Modality, first: int) -> tuple[Sample, ...]:
    """Samples of a training list, pid = class number + ``first``."""
    return tuple(Sample(line.path, line.label + first, cam, modality) for line in lines)


def one_sided_note(kind: str, visible: Iterable[Sample], infrared: Iterable[Sample]) -> list[str]:
    """At most one line about identities seen in one modality only."""
    odd = {sample.pid for sample in visible} ^ {sample.pid for sample in infrared}
    return [f"{len(odd)} {kind} identities have images in one modality only"] if odd else []
