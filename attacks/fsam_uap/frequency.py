"""FSAM and SFM: attention on the phase of a feature map, and on the map itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mask_phase(spectrum: Tensor, mask: Tensor) -> Tensor:
    """real(IFFT(A exp(i M P))) per channel over h, w, with A and P the amplitude and phase of the FFT.

    ``spectrum``: FFT of N x C x h x w features; ``mask`` broadcasts to it. Ones give the features back.
    """
    return torch.fft.ifft2(torch.polar(spectrum.abs(), mask * spectrum.angle())).real


class FSAM(nn.Module):
    """Frequency-spatial attention module: an attention mask multiplies the phase of the feature map."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def mask(self, features: Tensor) -> Tensor:
        """The attention mask on the phase of N x C x h x w features, in [0, 1]."""
        return self.attention(torch.fft.fft2(features).angle())

    def forward(self, features: Tensor) -> Tensor:
        spectrum = torch.fft.fft2(features)
        return mask_phase(spectrum, self.attention(spectrum.angle()))


class SFM(nn.Module):
    """Spatial focusing module: an attention mask multiplies the feature map."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def mask(self, features: Tensor) -> Tensor:
        """The attention mask on N x C x h x w features, in [0, 1]."""
        return self.attention(features)

    def forward(self, features: Tensor) -> Tensor:
        return features * self.attention(features)
