"""Conversion to grey, and resizing."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import interpolate

#: Weights of red, green and blue (ITU-R BT.601), as Pillow's conversion to grey.
_LUMA = (0.299, 0.587, 0.114)


def grey_images(images: Tensor) -> Tensor:
    """N x 3 x H x W images, each channel replaced by the weighted sum of all three."""
    weights = images.new_tensor(_LUMA).view(3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True).expand_as(images)


#: How :func:`resize` works, as written into records.
RESIZE_POLICY = "bilinear, antialiased"


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize N x C x H x W values to ``size`` (H, W); the same tensor if it has that size."""
    if tuple(images.shape[2:]) == tuple(size):
        return images
    return interpolate(images, size, mode="bilinear", antialias=True)
