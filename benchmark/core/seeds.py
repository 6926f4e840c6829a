"""Check seeds; make generators that use all of a seed's bits."""

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
#: torch's CPU generator uses the lower 32 bits of a seed.
_TORCH = 1 << 32


def check_seed(seed: Any, what: str = "seed") -> int:
    """``seed`` as an int; :class:`BadInput` unless it is a whole number in [0, 2^63), and no bool."""
    try:
        # NumPy's bool type is named bool or bool_, depending on its version.
        found = -1 if type(seed).__name__ in ("bool", "bool_") else operator.index(seed)
    except TypeError:
        found = -1
    if not 0 <= found < SEEDS:
        raise BadInput(f"{what}: seeds are whole numbers from 0 to 2^63 - 1, not {shortened(repr(seed), 60)}")
    return found


def torch_generator(seed: int) -> torch.Generator:
    """A CPU generator in which all bits of ``seed`` count.

    Below 2^32 it is torch's. For larger seeds, whose higher bits torch ignores, its Mersenne twister gets the
    state that Python's ``random.Random(seed)`` starts with.
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

    NumPy concatenates the 32-bit words of all parts, so a seed of two words could equal a seed and another
    number. Seeds from 2^32 on become 128 bits of a hash.
    """
    return seed if seed < _TORCH else int.from_bytes(_digest(str(seed))[:16], "big")


def hashed(text: str) -> int:
    """A 63-bit seed from a text, the same in every process."""
    return int.from_bytes(_digest(text)[:8], "big") >> 1


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
