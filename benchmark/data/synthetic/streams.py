"""Seeded random numbers per item (an identity, an image), independent of how many items there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum

import numpy as np

from vbench.core.seeds import entropy


class Stream(IntEnum):
    """Independent streams of one seed: using more numbers in one does not change another."""

    IDENTITY = 1
    SCENE = 2
    NOISE = 3
    SPLIT = 4
    GALLERY = 5


def generator(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """The generator of the item (an identity, an image) with this ``key``."""
    return np.random.default_rng([entropy(seed), int(stream), *key])


class Draws:
    """Samples random variables for ``n`` items from one row of uniform numbers per item.

    Every method uses the next column (at most ``questions`` in all) and returns an array of length ``n``
    (float32, or int64 for :meth:`choice`). Row ``k`` depends only on the seed, the stream and ``keys[k]``.
    """

    def __init__(self, seed: int, stream: Stream, keys: Iterable[Sequence[int]], questions: int) -> None:
        rows = [generator(seed, stream, *key).random(questions) for key in keys]
        self._columns = iter(np.stack(rows, axis=1))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Uniform in [low, high)."""
        return (low + (high - low) * next(self._columns)).astype(np.float32)

    def bell(self, spread: float) -> np.ndarray:
        """Triangular distribution on [-spread, spread], symmetric about 0; uses two columns."""
        return (spread * (next(self._columns) - next(self._columns))).astype(np.float32)

    def yes(self, probability: float) -> np.ndarray:
        """1 with this probability, else 0."""
        return (next(self._columns) < probability).astype(np.float32)

    def choice(self, weights: Sequence[float]) -> np.ndarray:
        """Index into ``weights``, with probability proportional to them."""
        edges = np.cumsum(np.asarray(weights, dtype=np.float64))
        return np.searchsorted(edges[:-1] / edges[-1], next(self._columns), side="right")
