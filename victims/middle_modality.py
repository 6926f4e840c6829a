"""MMN's generator of images between the modalities."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vbench.types import Modality

_START = 0.333


class _Encoder(nn.Module):
    """Normalised N x 3 x H x W images of one modality to one normalised channel."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 1, kernel_size=1)
        self.scale = nn.Conv2d(1, 1, kernel_size=1)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(F.relu(self.scale(F.relu(self.mix(images)))))


class MiddleModality(nn.Module):
    """Turns images of either modality into one that both share, pixel by pixel.

    Each modality has its own encoder to a single channel (1x1 convolutions and batch normalisation); one
    decoder makes three channels of it for both. Source: Zhang et al., ACM MM 2021 (middle modality
    generator).
    """

    def __init__(self) -> None:
        super().__init__()
        self.visible = _Encoder()
        self.infrared = _Encoder()
        self.decoder = nn.Conv2d(1, 3, kernel_size=1)

    def forward(self, images: Tensor, modality: Modality) -> Tensor:
        """Non-negative N x 3 x H x W images of the middle modality, from normalised ones."""
        encoder = self.visible if modality is Modality.VISIBLE else self.infrared
        return F.relu(self.decoder(encoder(images)))

    @torch.no_grad()
    def start_as_average(self) -> None:
        """Give every convolution the authors' starting weights: all equal, so that channels are averaged."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.constant_(module.weight, _START)
                nn.init.zeros_(module.bias)
