"""Global random state, borrowed for code that draws from nothing else and put back afterwards."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.random import bit_generator


@contextmanager
def own_random_state() -> Iterator[None]:
    """Put the states of Python, NumPy and torch (CPU, CUDA) back on leaving, also after an exception."""
    here, there = random.getstate(), np.random.get_state()  # noqa: NPY002
    makers, seeds = vars(np.random), vars(bit_generator)
    reborn, machine = makers["RandomState"], seeds["randbits"]
    try:
        with torch.random.fork_rng(devices=_gpus()):
            # Generators that are made without a seed take it from the machine: derive it from ours as well.
            makers["RandomState"], seeds["randbits"] = _Derived, random.getrandbits
            yield
    finally:
        makers["RandomState"], seeds["randbits"] = reborn, machine
        np.random.set_state(there)  # noqa: NPY002
        random.setstate(here)


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    # torch.manual_seed() formats a stack trace at each call where there is no GPU.
    torch.default_generator.manual_seed(seed)
    for index in _gpus():
        torch.cuda.default_generators[index].manual_seed(seed)


def random_state() -> tuple[Any, ...]:
    """The states of Python, NumPy and torch; equal ones as long as nothing is drawn."""
    numpy = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    states = [torch.get_rng_state(), *(torch.cuda.get_rng_state(index) for index in _gpus())]
    torch_states = [state.numpy().tobytes() for state in states]
    return random.getstate(), numpy["key"].tobytes(), numpy["pos"], torch_states


def _gpus() -> range:
    # To ask a GPU that nobody uses would start it.
    return range(torch.cuda.device_count()) if torch.cuda.is_initialized() else range(0)


class _Derived(np.random.RandomState):
    """A generator that takes its seed from NumPy's global state when none is given."""

    def __init__(self, seed: int | Sequence[int] | np.ndarray | np.random.BitGenerator | None = None) -> None:
        super().__init__(np.random.randint(2**31) if seed is None else seed)  # noqa: NPY002
