"""Colour images in grey."""

from __future__ import annotations

from torch import Tensor

#: Weights of red, green and blue (ITU-R BT.601), as Pillow's conversion to grey.
_LUMA = (0.299, 0.587, 0.114)


def grey_images(images: Tensor) -> Tensor:
    """N x 3 x H x W images with every channel replaced by the weighted sum of the three."""
    weights = images.new_tensor(_LUMA).view(3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True).expand_as(images)
