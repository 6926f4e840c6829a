"""Seeds: which there are, and generators in which every digit of one counts."""

from __future__ import annotations

import hashlib
import operator
import random
from typing import TYPE_CHECKING, Any

from vbench.core.errors import BadInput, shortened

if TYPE_CHECKING:
    import torch

#: A seed is a whole number from 0 up to this, exclusive: what a record can hold.
SEEDS = 1 << 63
#: What the seeding of torch's generator on the CPU tells apart.
_TORCH = 1 << 32


def check_seed(seed: Any, what: str = "seed") -> int:
    """``seed`` as an int; :class:`BadInput` for a truth value and all else but whole numbers in [0, 2^63)."""
    try:
        # NumPy's truth values are named bool or bool_, depending on its version.
        found = -1 if type(seed).__name__ in ("bool", "bool_") else operator.index(seed)
    except TypeError:
        found = -1
    if not 0 <= found < SEEDS:
        raise BadInput(f"{what}: seeds are whole numbers from 0 to 2^63 - 1, not {shortened(repr(seed), 60)}")
    return found


def torch_generator(seed: int) -> torch.Generator:
    """A generator on the CPU; two seeds never give the same draws.

    Below 2^32 it is the one that torch makes. Torch itself leaves out the higher bits, so for larger seeds
    its Mersenne twister starts in the state of Python's own, which takes in all of them.
    """
    import numpy as np
    import torch

    seed = check_seed(seed)
    made = torch.Generator().manual_seed(seed % _TORCH)
    if seed < _TORCH:
        return made
    # The last word of Python's state is the position in it.
    words = np.array(random.Random(seed).getstate()[1][:-1], "<u8")
    state = made.get_state()
    # 24 bytes of counters, then the words of the twister in eight bytes each.
    state[24 : 24 + words.nbytes] = torch.from_numpy(words.view(np.uint8))
    made.set_state(state)
    return made


def entropy(seed: int) -> int:
    """A seed as the first part of a NumPy seed of several parts: ``default_rng([entropy(seed), number])``.

    NumPy puts the 32-bit words of all parts in a row, so that a seed of two words could pass for a seed and
    another number. Larger ones become 128 bits of a hash.
    """
    return seed if seed < _TORCH else int.from_bytes(_digest(str(seed))[:16], "big")


def hashed(text: str) -> int:
    """A seed of 63 bits from a text, the same in every process."""
    return int.from_bytes(_digest(text)[:8], "big") >> 1


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
