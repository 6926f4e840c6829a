"""FSAM and SFM: attention on the phase of a feature map, and on the map itself.

A feature map is real, so half of its spectrum says everything: at the opposite frequency the amplitude is the
same and the phase has the other sign.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def opposite(values: Tensor) -> Tensor:
    """Values of a full spectrum (... x h x w) at the opposite frequencies: row -k, column -l for k, l."""
    return values.flip(-2, -1).roll((1, 1), (-2, -1))


def whole_phase(half: Tensor, width: int) -> Tensor:
    """Phase of the full spectrum, ... x h x ``width``, from that of its half, ... x h x (width // 2 + 1)."""
    missing = half[..., 1 : (width + 1) // 2]
    return torch.cat([half, -missing.flip(-2, -1).roll(1, -2)], -1)


def mask_phase(spectrum: Tensor, phase: Tensor, mask: Tensor, width: int) -> Tensor:
    """real(IFFT(A exp(i M P))) per channel over h, w, with A and P amplitude and phase of the full FFT.

    ``spectrum`` S: the half spectrum of N x C x h x ``width`` real features, ``phase`` its phase; ``mask`` M
    broadcasts to the full spectrum and need not be symmetric. Ones give the features back.

    The real part keeps, of each frequency, the mean over its two ends: A / 2 (exp(i M P) + exp(i M' P)) with
    M' the mask at the opposite frequency, which is S exp(i ((M + M') / 2 - 1) P) cos((M - M') / 2 P).
    """
    length = torch.ones_like(phase)
    if mask.shape[-1] > 1:
        columns = spectrum.shape[-1]
        near, far = mask[..., :columns], opposite(mask)[..., :columns]
        # The first column, and the last of an even width, hold both ends themselves.
        whole = torch.arange(columns, device=mask.device) * 2 % width == 0
        mask = torch.where(whole, near, (near + far) / 2)
        length = torch.cos((near - mask) * phase)
    turned = spectrum * torch.polar(length, (mask - 1) * phase)
    # One axis after the other: what a real signal cannot have is dropped then, and undefined otherwise.
    return torch.fft.irfft(torch.fft.ifft(turned, dim=-2), n=width, dim=-1)


class FSAM(nn.Module):
    """Frequency-spatial attention module: an attention mask multiplies the phase of the feature map."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def mask(self, features: Tensor) -> Tensor:
        """The attention mask on the phase of N x C x h x w features, in [0, 1]."""
        return self.attention(whole_phase(torch.fft.rfft2(features).angle(), features.shape[-1]))

    def forward(self, features: Tensor) -> Tensor:
        width, spectrum = features.shape[-1], torch.fft.rfft2(features)
        phase = spectrum.angle()
        return mask_phase(spectrum, phase, self.attention(whole_phase(phase, width)), width)


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
