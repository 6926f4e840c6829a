"""DEEN's diverse embedding expansion: further versions of every feature map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_DILATIONS = (1, 2, 3)
BRANCHES = 2


class _Branch(nn.Module):
    """Dilated 3x3 convolutions to a quarter of the channels, their mean, ReLU, and back by 1x1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 4
        self.dilated = nn.ModuleList(
            nn.Conv2d(channels, inner, kernel_size=3, padding=dilation, dilation=dilation, bias=False)
            for dilation in _DILATIONS
        )
        self.project = nn.Conv2d(inner, channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        mean = sum(convolve(features) for convolve in self.dilated) / len(self.dilated)
        return self.project(F.relu(mean))


class EmbeddingExpansion(nn.Module):
    """N x ``channels`` x h x w maps to 3N: themselves, below them a first and a second version of each.

    Source: Zhang et al., CVPR 2023 (diverse embedding expansion).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_Branch(channels) for _ in range(BRANCHES))

    def forward(self, features: Tensor) -> Tensor:
        """Version v of image i is row ``v * N + i``."""
        return torch.cat((features, *(branch(features) for branch in self.branches)))
