"""Ten galleries drawn at random, and the union of them that is embedded once."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import numpy as np

from vbench.data.base import Sample, Trial
from vbench.data.protocols import DRAWS


def draw_galleries(groups: Sequence[Sequence[Sample]], shots: int) -> dict[str, list[Sample]]:
    """Draw ``shots`` images of each group for trials "seed-0" ... "seed-9".

    Trial t uses Python's generator seeded with t, one draw a group in the order given: for one shot
    ``choice`` over the group, the stream of ``random.seed(t)`` in the AGW line of work. For more shots
    ``sample`` without replacement, all of a group that has fewer (in drawn order); no released script
    seeds a multi-shot draw reproducibly, so that rule is this project's.
    """
    galleries = {}
    for trial in range(DRAWS):
        generator = random.Random(trial)
        chosen: list[Sample] = []
        for group in groups:
            if shots == 1:
                chosen.append(generator.choice(group))
            else:
                chosen.extend(generator.sample(group, min(shots, len(group))))
        galleries[f"seed-{trial}"] = chosen
    return galleries


def index_galleries(
    galleries: dict[str, list[Sample]], order: Iterable[Sample], queries: int
) -> tuple[tuple[Sample, ...], tuple[Trial, ...]]:
    """Turn drawn galleries into their union, each image once in ``order``, and trials that point into it.

    ``queries`` is the number of query images; every trial ranks all of them.
    """
    drawn = {sample for chosen in galleries.values() for sample in chosen}
    union = tuple(sample for sample in order if sample in drawn)
    position = {sample: index for index, sample in enumerate(union)}
    everyone = np.arange(queries)
    trials = tuple(
        Trial(name, everyone, np.array([position[sample] for sample in chosen], dtype=np.int64))
        for name, chosen in galleries.items()
    )
    return union, trials
