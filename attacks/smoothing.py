"""Translation-invariant gradients: a Gaussian over the gradient (Dong et al., CVPR 2019, equation 7)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from vbench.errors import BadInput


def check_length(length: int, owner: str) -> None:
    """Refuse an even kernel, which would move the gradient by half a pixel."""
    if length and length % 2 == 0:
        raise BadInput(f"{owner}: smoothing={length} must be odd (15 in the paper), or 0 for none")


def gaussian_line(length: int) -> Tensor:
    """One-dimensional Gaussian of ``length`` (odd) values that sum to one, three deviations to each end.

    float64; the square kernel of the paper is its outer product with itself. Three values are nearly none:
    the middle one keeps 0.98.
    """
    if length == 1:
        return torch.ones(1, dtype=torch.float64)
    line = torch.exp(-torch.linspace(-3, 3, length, dtype=torch.float64).square() / 2)
    return line / line.sum()


def smoothed(gradient: Tensor, length: int) -> Tensor:
    """An N x C x H x W gradient under the square Gaussian of ``length``, zeros beyond the border."""
    line = gaussian_line(length).to(gradient)
    channels = gradient.shape[1]
    rows = line.view(1, 1, 1, -1).expand(channels, 1, 1, length)
    columns = line.view(1, 1, -1, 1).expand(channels, 1, length, 1)
    # A Gaussian is separable: two lines cost 2 n products a pixel, the square n squared.
    return conv2d(
        conv2d(gradient, rows, padding="same", groups=channels), columns, padding="same", groups=channels
    )
