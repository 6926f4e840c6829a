"""What is computed in another way for the sake of GPUs gives what the plain way gives."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from vbench.attacks.base import Context
from vbench.attacks.perturbation import mirrored_index
from vbench.core.threat import ThreatModel
from vbench.metrics.change import ssim


@pytest.mark.parametrize("padding", [1, 3])
def test_a_mirrored_border_by_index_has_the_values_and_the_gradient(padding):
    images = torch.randn(2, 3, 9, 5, generator=torch.Generator().manual_seed(0))
    plain, ours = images.clone().requires_grad_(), images.clone().requires_grad_()
    expected = F.pad(plain, (padding,) * 4, mode="reflect")
    rows, columns = (mirrored_index(size, padding, images.device) for size in images.shape[2:])
    found = ours[:, :, rows[:, None], columns]
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    for one in (expected, found):
        (one * weights).sum().backward()
    assert torch.equal(found, expected) and torch.allclose(ours.grad, plain.grad)


@pytest.mark.parametrize("threads", [1, 3])
def test_noise_is_that_of_each_image_however_many_threads_draw_it(threads):
    seeds, images, before = (5, 2**40, 7), torch.zeros(3, 3, 8, 4), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = Context(ThreatModel("8/255"), seeds, torch.zeros(3, 2)).uniform(images)
    finally:
        torch.set_num_threads(before)
    for row, seed in zip(found, seeds, strict=True):
        drawn = torch.rand(row.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert torch.equal(row, (drawn * 2 - 1).to(row) * (8 / 255))


@pytest.mark.parametrize("size", [(24, 16), (9, 12)])
def test_similarity_with_a_window_of_two_lines_is_that_with_the_square_one(size):
    a, b = torch.rand(2, 2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    side = min(11, *size)
    line = torch.exp(-((torch.arange(side, dtype=torch.float64) - (side - 1) / 2) ** 2) / 4.5)
    window = (line[:, None] * line / line.sum() ** 2).flatten()

    def mean(images):
        return torch.einsum("nckp,k->ncp", F.unfold(images, side).unflatten(1, (3, side * side)), window)

    products = mean(a * b) - mean(a) * mean(b)
    spread = mean(a * a) - mean(a) ** 2 + mean(b * b) - mean(b) ** 2
    light = (2 * mean(a) * mean(b) + 1e-4) / (mean(a) ** 2 + mean(b) ** 2 + 1e-4)
    expected = (light * (2 * products + 9e-4) / (spread + 9e-4)).mean((1, 2))
    assert torch.allclose(ssim(a, b), expected, rtol=0, atol=1e-12)
