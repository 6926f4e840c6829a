"""Attention masks on an N x C x h x w map, each in (0, 1) and broadcastable to it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

KINDS = ("cbam_spatial", "se", "eca", "identity")


class SpatialAttention(nn.Module):
    """sigmoid(conv7x7([channel mean; channel max])): N x 1 x h x w, the spatial half of CBAM."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, features: Tensor) -> Tensor:
        pooled = torch.cat([features.mean(1, keepdim=True), features.amax(1, keepdim=True)], 1)
        return torch.sigmoid(self.conv(pooled))


class SqueezeExcitation(nn.Module):
    """sigmoid(W2 relu(W1 mean)): N x C x 1 x 1 (Hu et al., CVPR 2018, reduction 16)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        inner = max(channels // reduction, 1)
        self.squeeze = nn.Linear(channels, inner)
        self.excite = nn.Linear(inner, channels)

    def forward(self, features: Tensor) -> Tensor:
        inner = torch.relu(self.squeeze(features.mean((2, 3))))
        return torch.sigmoid(self.excite(inner))[:, :, None, None]


class EfficientChannelAttention(nn.Module):
    """sigmoid(conv1d over neighbouring channel means): N x C x 1 x 1 (Wang et al., CVPR 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        size = int(abs(math.log2(channels) / 2 + 0.5))
        size += 1 - size % 2
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2)

    def forward(self, features: Tensor) -> Tensor:
        means = features.mean((2, 3)).unsqueeze(1)
        return torch.sigmoid(self.conv(means)).squeeze(1)[:, :, None, None]


class NoAttention(nn.Module):
    """A mask of ones: the control that turns the module around it into the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, features: Tensor) -> Tensor:
        return features.new_ones(1, 1, 1, 1)


def attention(kind: str, channels: int, start: float, generator: torch.Generator) -> nn.Module:
    """Build an attention of one of :data:`KINDS` whose mask starts near ``start`` in (0, 1)."""
    classes = dict(
        zip(KINDS, (SpatialAttention, SqueezeExcitation, EfficientChannelAttention, NoAttention), strict=True)
    )
    # Built without values: the library's own initialisation would draw from global random state.
    with torch.device("meta"):
        module = classes[kind](channels)
    module = module.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            draw = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(draw / fan_in**0.5 if parameter.ndim > 1 else torch.zeros_like(draw))
        last = [child for child in module.modules() if getattr(child, "bias", None) is not None]
        if last:
            last[-1].bias.fill_(math.log(start / (1 - start)))
    return module
