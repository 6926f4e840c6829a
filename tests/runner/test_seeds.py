"""Every allowed seed draws something of its own, and what is no seed is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vbench.core.errors import BadInput
from vbench.core.seeds import check_seed, entropy, torch_generator
from vbench.core.types import Side
from vbench.data.synthetic.people import Stream, generator
from vbench.run import craft
from vbench.run.craft import image_seeds

LARGE = (2**32, 2**32 + 1, 2**33, 3 * 2**32, 2**62, 2**63 - 1)


@pytest.mark.parametrize("seed", [0, 7, 2**32, 2**63 - 1, np.int64(5), np.uint64(2**62), np.int8(3)])
def test_whole_numbers_are_seeds(seed):
    assert check_seed(seed) == int(seed) and type(check_seed(seed)) is int


@pytest.mark.parametrize(
    "seed",
    [-1, 2**63, 2**64, True, False, np.True_, 1.0, np.float64(2), "3", "one", None, [1], np.uint64(2**63)],
)
def test_nothing_else_is(seed):
    with pytest.raises(BadInput, match=r"seeds are whole numbers from 0 to 2\^63 - 1, not ") as refused:
        check_seed(seed)
    assert "\n" not in str(refused.value)
    with pytest.raises(BadInput):
        torch_generator(seed)


@pytest.mark.parametrize("seed", [0, 1, 19, 2**31, 2**32 - 1])
def test_seeds_of_32_bits_draw_what_torch_draws(seed):
    expected = torch.rand(700, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert torch.equal(torch.rand(700, generator=torch_generator(seed), dtype=torch.float64), expected)


@pytest.mark.parametrize("seed", LARGE)
def test_larger_ones_draw_what_the_twister_seeded_with_both_words_draws(seed):
    found = torch.rand(1500, generator=torch_generator(seed))
    twister = np.random.RandomState([seed % 2**32, seed >> 32])
    words = twister.randint(0, 2**32, 1500, dtype=np.uint32)
    np.testing.assert_array_equal(found.numpy(), (words & 0xFFFFFF) / np.float32(2**24))


def test_no_two_seeds_draw_the_same():
    seeds = [*range(50), *LARGE, *(seed + 2**32 for seed in range(50)), *(seed << 40 for seed in range(1, 9))]
    draws = {tuple(torch.rand(4, generator=torch_generator(seed)).tolist()) for seed in dict.fromkeys(seeds)}
    assert len(draws) == len(set(seeds))


def test_a_seed_and_a_number_are_no_larger_seed():
    """NumPy puts words of all parts in a row: [5 + 7 * 2^32, 0] and [5, 7] are the same to it."""

    def draw(*parts):
        return np.random.default_rng(parts).random()

    assert draw(5 + 7 * 2**32, 0) == draw(5, 7)
    assert draw(entropy(5 + 7 * 2**32), 0) != draw(entropy(5), 7)
    assert draw(entropy(5), 7) == draw(5, 7)
    people = [generator(seed, Stream.IDENTITY, pid).random() for seed in (5, 5 + 2**32) for pid in range(9)]
    assert len(set(people)) == 18


def test_images_of_small_seeds_have_seeds_of_their_own_in_32_bits():
    starts = sorted(
        image_seeds(seed, side, slice(0, 1))[0] % 2**32
        for seed in range(craft._PLAIN_SEEDS)
        for side in (Side.QUERY, Side.GALLERY)
    )
    gaps = np.diff([*starts, starts[0] + 2**32])
    assert gaps.min() >= craft._PLAIN_IMAGES
    for seed in (0, 1, 1999):
        first, last = image_seeds(seed, Side.GALLERY, slice(0, 2))[0], craft._PLAIN_IMAGES - 1
        assert image_seeds(seed, Side.GALLERY, slice(last, last + 1)) == (first + last,)
    assert image_seeds(0, Side.QUERY, slice(3, 6)) == (3, 4, 5)


def test_images_of_any_seeds_share_no_chance():
    rows, seeds = slice(0, 40), [*range(30), *LARGE, 2000, 2**32 + 2000, 2**40]
    found = [
        one for seed in seeds for side in (Side.QUERY, Side.GALLERY) for one in image_seeds(seed, side, rows)
    ]
    found += image_seeds(0, Side.QUERY, slice(craft._PLAIN_IMAGES, craft._PLAIN_IMAGES + 40))
    assert len({one % 2**32 for one in found}) == len(found)
    assert all(0 <= one < 2**63 for one in found)
