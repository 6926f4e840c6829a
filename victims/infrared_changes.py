"""Random changes of infrared training images: brightness and contrast, or blur."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Factors lie within 1 +- this share.
_STRENGTH = 0.3
#: Bounds of the blur's standard deviation and its kernel's radius, in pixels of an image 256 rows high.
_BLUR, _RADIUS, _HEIGHT = (0.1, 3.0), 10, 256


def jitter_or_blur(images: Tensor, generator: torch.Generator) -> Tensor:
    """Change brightness and contrast of one half of N x 3 x H x W images in [0, 1], blur the others.

    Which image gets what, both factors (within 0.7 to 1.3), their order and the Gaussian's width (0.1 to 3
    pixels of an image of 256 rows, in proportion for others) are drawn on the CPU for each image. Returns a
    new tensor in [0, 1]. Source: Lu et al., AAAI 2023 (released training transforms).
    """
    draws = torch.rand(5, len(images), 1, 1, 1, generator=generator).to(images.device)
    factors = 1 + _STRENGTH * (2 * draws[:2] - 1)
    bright_first = _contrast(_brightness(images, factors[0]), factors[1])
    contrast_first = _brightness(_contrast(images, factors[1]), factors[0])
    jittered = torch.where(draws[2] < 0.5, bright_first, contrast_first)
    scale = images.shape[2] / _HEIGHT
    deviations = scale * (_BLUR[0] + draws[3] * (_BLUR[1] - _BLUR[0]))
    blurred = blur(images, deviations.flatten(), max(1, round(scale * _RADIUS)))
    return torch.where(draws[4] < 0.5, jittered, blurred)


def blur(images: Tensor, deviations: Tensor, radius: int) -> Tensor:
    """Gaussian blur of N x C x H x W images, image i by ``deviations[i]`` pixels; borders are reflected.

    The kernel reaches ``radius`` pixels to each side, less than H and W.
    """
    count, channels, height, width = images.shape
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    weights = (-0.5 * (offsets / deviations[:, None]).square()).softmax(dim=1)
    kernels = weights.repeat_interleave(channels, dim=0)[:, None, None, :]
    maps = F.pad(images, (radius,) * 4, mode="reflect").flatten(0, 1)[None]
    with torch.autocast(images.device.type, enabled=False):
        rows = F.conv2d(maps, kernels, groups=count * channels)
        both = F.conv2d(rows, kernels.transpose(2, 3), groups=count * channels)
    return both.view(count, channels, height, width)


def _brightness(images: Tensor, factors: Tensor) -> Tensor:
    return (images * factors).clamp(0, 1)


def _contrast(images: Tensor, factors: Tensor) -> Tensor:
    # Infrared images have three equal channels, so their mean is the mean of the grey image.
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + factors * (images - mean)).clamp(0, 1)
