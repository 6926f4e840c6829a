"""DDAG's intra-modality weighted part attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vbench.victims.neck import bn_neck


class PartAttention(nn.Module):
    """Refines a vector by what the horizontal stripes of its map say about each other.

    The ``count`` stripes of an N x ``channels`` x h x w map are average pooled; each attends to all by
    ``softmax(q k^T) v``, without scaling of the product. Their mean, weighted by softmax(gate), is added to
    the vector, and the sum goes through a batch normalisation. Source: Ye et al., ECCV 2020, section 3.2;
    the vector added is the one after the neck, as in the released code.
    """

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels, kernel_size=1)
        self.key = nn.Conv2d(channels, channels, kernel_size=1)
        self.value = nn.Conv2d(channels, channels, kernel_size=1)
        self.gate = nn.Parameter(torch.empty(count))
        self.neck = bn_neck(channels)

    def draw_weights(self, generator: torch.Generator) -> None:
        """Start with stripes of equal weight; nothing is drawn."""
        nn.init.constant_(self.gate, 1 / len(self.gate))

    def forward(self, features: Tensor, vectors: Tensor) -> Tensor:
        """Return N x ``channels`` refined ``vectors`` (N x ``channels``) of the maps ``features``."""
        stripes = F.adaptive_avg_pool2d(features, (len(self.gate), 1))
        query, key, value = (
            layer(stripes).squeeze(3).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        # Not a matrix product: in half precision that would round the unscaled, large scores.
        scores = (query[:, :, None] * key[:, None]).sum(dim=3)
        refined = scores.softmax(dim=2) @ value
        return self.neck((refined * self.gate.softmax(dim=0)[:, None]).sum(dim=1) + vectors)
