"""Global random state, borrowed for code that draws from nothing else and put back afterwards."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def own_chance() -> Iterator[None]:
    """Put the states of Python, NumPy and torch (CPU, CUDA) back on leaving, also after an exception."""
    here, there = random.getstate(), np.random.get_state()  # noqa: NPY002
    reborn = np.random.RandomState
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            # Some attacks of ART make a generator seeded by the machine: derive it from the seed as well.
            np.random.RandomState = _Derived
            yield
    finally:
        np.random.RandomState = reborn
        np.random.set_state(there)  # noqa: NPY002
        random.setstate(here)


def sow(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)


class _Derived(np.random.RandomState):
    """A generator that takes its seed from NumPy's global state when none is given."""

    def __init__(self, seed: object = None) -> None:
        super().__init__(np.random.randint(2**31) if seed is None else seed)  # noqa: NPY002
