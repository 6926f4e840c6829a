"""Images and perturbations of one size as those of another; differentiable."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import interpolate

#: How it is done, as records say it.
RESIZE_POLICY = "bilinear, antialiased"


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """N x C x H x W values at another ``size`` (H, W); the same tensor where it has that size."""
    if tuple(images.shape[2:]) == tuple(size):
        return images
    return interpolate(images, size, mode="bilinear", antialias=True)
