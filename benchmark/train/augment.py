"""Flip, shifted crop and erasing for a whole batch at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Random erasing of Zhong et al., AAAI 2020: bounds of height over width.
_ERASED_ASPECT = (0.3, 1 / 0.3)


def augment(
    images: Tensor,
    generator: torch.Generator,
    flip: float = 0.5,
    padding: int = 0,
    erasing: float = 0.0,
    erasing_area: tuple[float, float] = (0.02, 0.4),
) -> Tensor:
    """Turn N x H x W x 3 uint8 images into augmented N x 3 x H x W float images in [0, 1].

    Each image is mirrored with probability ``flip``, shifted by up to ``padding`` pixels over a black
    border, and with probability ``erasing`` loses a rectangle to its own mean colour, whose share of the
    image lies within ``erasing_area``. ``generator`` and ``images`` are on the CPU; the input is not changed.
    """
    moved = _flip_and_shift(images, generator, flip, padding)
    floats = moved.permute(0, 3, 1, 2).to(torch.float32).div_(255)
    return _erase(floats, generator, erasing, erasing_area) if erasing > 0 else floats


def _flip_and_shift(images: Tensor, generator: torch.Generator, flip: float, padding: int) -> Tensor:
    count, height, width, _ = images.shape
    mirrored = torch.rand(count, 1, generator=generator) < flip
    shifts = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator)
    columns = torch.arange(width).expand(count, width)
    rows = torch.arange(height) + shifts[0]
    columns = torch.where(mirrored, width - 1 - columns, columns) + shifts[1]
    padded = torch.nn.functional.pad(images, (0, 0, padding, padding, padding, padding))
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _erase(
    images: Tensor, generator: torch.Generator, probability: float, bounds: tuple[float, float]
) -> Tensor:
    count, _, height, width = images.shape
    draws = torch.rand(5, count, generator=generator)
    area = height * width * (bounds[0] + draws[0] * (bounds[1] - bounds[0]))
    low, high = (math.log(bound) for bound in _ERASED_ASPECT)
    aspect = (low + draws[1] * (high - low)).exp()
    tall = (area * aspect).sqrt().clamp(max=height)
    wide = (area / aspect).sqrt().clamp(max=width)
    top, left = draws[2] * (height - tall), draws[3] * (width - wide)
    inside_rows = _between(torch.arange(height), top, tall)
    inside_columns = _between(torch.arange(width), left, wide)
    chosen = (draws[4] < probability)[:, None, None]
    erased = (inside_rows[:, :, None] & inside_columns[:, None, :] & chosen)[:, None]
    return torch.where(erased, images.mean(dim=(2, 3), keepdim=True), images)


def _between(positions: Tensor, start: Tensor, length: Tensor) -> Tensor:
    return (positions >= start[:, None]) & (positions < (start + length)[:, None])
