"""Jitter or blur of infrared images, against a transcription image by image."""

from __future__ import annotations

import math

import pytest
import torch

from vbench.victims.training.batches import blur, drop_branches, drop_elements, generator_on, jitter_or_blur


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def grey_images(count, height=64, width=32, seed=0):
    return torch.rand(count, 1, height, width, generator=seeded(seed)).expand(-1, 3, -1, -1)


def slow_blur(image, deviation, radius):
    """One pixel at a time, borders reflected without repeating the edge."""
    height, width = image.shape

    def reflect(position, size):
        position = abs(position)
        return 2 * (size - 1) - position if position >= size else position

    taps = {o: math.exp(-(o**2) / (2 * deviation**2)) for o in range(-radius, radius + 1)}
    total = sum(taps.values())
    out = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            out[row, column] = sum(
                a * b * image[reflect(row + i, height), reflect(column + j, width)]
                for i, a in taps.items()
                for j, b in taps.items()
            )
    return out / total**2


def test_blur_is_a_gaussian_of_its_own_width_for_each_image():
    images = torch.rand(2, 3, 7, 6, dtype=torch.float64, generator=seeded(1))
    deviations = torch.tensor([0.3, 1.7], dtype=torch.float64)
    found = blur(images, deviations, 3)
    for index in range(2):
        for channel in range(3):
            expected = slow_blur(images[index, channel], float(deviations[index]), 3)
            torch.testing.assert_close(found[index, channel], expected)


def test_each_image_is_either_jittered_or_blurred():
    images = grey_images(400)
    changed = jitter_or_blur(images, seeded(2))
    assert changed.min() >= 0
    assert changed.max() <= 1
    torch.testing.assert_close(changed[:, 0], changed[:, 2])
    # Jitter is affine in the pixel wherever it does not clip; a blur is not.
    x, y = images[:, 0].flatten(1), changed[:, 0].flatten(1)
    inside = ((y > 1e-6) & (y < 1 - 1e-6)).double()
    total = inside.sum(dim=1, keepdim=True)
    x0, y0 = ((v - (v * inside).sum(1, keepdim=True) / total) * inside for v in (x.double(), y.double()))
    slope = (x0 * y0).sum(dim=1, keepdim=True) / (x0 * x0).sum(dim=1, keepdim=True)
    affine = (y0 - slope * x0).abs().amax(dim=1) < 1e-5
    assert 0.4 < affine.double().mean() < 0.6
    slopes = slope[affine]
    # Both factors lie within 0.7 and 1.3, so their product does within the squares.
    assert slopes.min() > 0.49 - 1e-6
    assert slopes.max() < 1.69 + 1e-6
    assert slopes.std() > 0.1


def test_blur_grows_with_the_image():
    def strength(height, width):
        images = grey_images(40, height, width, seed=3)
        changed = jitter_or_blur(images, seeded(4))
        kept = (changed[..., 1:] - changed[..., :-1]).square().mean((1, 2, 3))
        return (kept / (images[..., 1:] - images[..., :-1]).square().mean((1, 2, 3))).quantile(0.1)

    assert strength(64, 32) > 5 * strength(256, 128)


def test_draws_come_from_the_generator_and_the_input_stays():
    images = grey_images(6)
    before, state = images.clone(), torch.get_rng_state()
    first, second, other = (jitter_or_blur(images, seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("drop", [drop_elements, drop_branches])
def test_dropping_keeps_the_mean_and_is_off_without_a_generator(drop):
    values = torch.ones(4000, 3, 2)
    assert drop(values, 0.3, None) is values
    assert drop(values, 0.0, seeded(0)) is values
    dropped = drop(values, 0.3, seeded(0))
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert dropped.mean() == pytest.approx(1, abs=0.05)
    rows = dropped.flatten(1)
    together = bool((rows == rows[:, :1]).all())
    assert together == (drop is drop_branches)


def test_generator_on_a_device_follows_its_source():
    source = seeded(1)
    first, second = (generator_on(torch.device("cpu"), source) for _ in range(2))
    again = generator_on(torch.device("cpu"), seeded(1))
    draws = [torch.rand(3, generator=generator) for generator in (first, second, again)]
    assert torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[1])
