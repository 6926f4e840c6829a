"""Save, seed and restore the global random state of Python, NumPy and torch."""

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
    """Restore the states of Python, NumPy and torch (CPU, CUDA) on leaving, also after an exception."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    makers, seeds = vars(np.random), vars(bit_generator)
    random_state_class, randbits = makers["RandomState"], seeds["randbits"]
    try:
        with torch.random.fork_rng(devices=_gpus()):
            # NumPy generators made without a seed would take one from the system: derive it from the state.
            makers["RandomState"], seeds["randbits"] = _Derived, random.getrandbits
            yield
    finally:
        makers["RandomState"], seeds["randbits"] = random_state_class, randbits
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    # torch.manual_seed() formats a stack trace at each call where there is no GPU.
    torch.default_generator.manual_seed(seed)
    for index in _gpus():
        torch.cuda.default_generators[index].manual_seed(seed)


def random_state() -> tuple[Any, ...]:
    """The states of Python, NumPy and torch; two results are equal if no random number was used between."""
    numpy = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    states = [torch.get_rng_state(), *(torch.cuda.get_rng_state(index) for index in _gpus())]
    torch_states = [state.numpy().tobytes() for state in states]
    return random.getstate(), numpy["key"].tobytes(), numpy["pos"], torch_states


def _gpus() -> range:
    # Asking would initialise CUDA in a process that does not use it.
    return range(torch.cuda.device_count()) if torch.cuda.is_initialized() else range(0)


class _Derived(np.random.RandomState):
    """A generator that takes its seed from NumPy's global state when none is given."""

    def __init__(self, seed: int | Sequence[int] | np.ndarray | np.random.BitGenerator | None = None) -> None:
        super().__init__(np.random.randint(2**31) if seed is None else seed)  # noqa: NPY002
