"""Channel exchange: colour images made to look like those of a camera that sees one channel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vbench.errors import BadInput

#: Red, green and blue weights of a grey image (ITU-R BT.601).
_LUMA = (0.2989, 0.5870, 0.1140)
#: Source of each output channel for every kind of exchange; source 3 is the grey image.
_SOURCES = ((0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3), (0, 1, 2))


def exchange_channels(images: Tensor, shares: Sequence[float], generator: torch.Generator) -> Tensor:
    """Give every image of an N x 3 x H x W batch one of five channel layouts, drawn independently.

    ``shares`` are the probabilities, up to a common factor, of: red in all three channels, green in all,
    blue in all, grey in all, unchanged. ``generator`` is on the CPU; the input is not changed. Raises
    BadInput unless there are five shares, none negative, not all zero. Source: Ye et al., ICCV 2021
    (random channel exchange), with the grey and unchanged images of the released code.
    """
    if len(shares) != len(_SOURCES) or min(shares) < 0 or sum(shares) <= 0:
        raise BadInput(f"channel exchange: needs five shares of at least 0, got {tuple(shares)}")
    edges = torch.tensor(shares, dtype=torch.float64).cumsum(0) / sum(shares)
    draws = torch.rand(len(images), dtype=torch.float64, generator=generator)
    kinds = torch.bucketize(draws, edges, right=True)
    sources = torch.tensor(_SOURCES)[kinds].to(images.device)
    weights = images.new_tensor(_LUMA).view(3, 1, 1)
    candidates = torch.cat((images, (images * weights).sum(dim=1, keepdim=True)), dim=1)
    rows = torch.arange(len(images), device=images.device)
    return candidates[rows[:, None], sources]
