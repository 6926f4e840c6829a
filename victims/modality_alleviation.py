"""Modality alleviation: channels that carry the modality are instance-normalised, the others are kept."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vbench.victims.channel_gate import ChannelGate


class ModalityAlleviation(nn.Module):
    """Blend a map with its instance-normalised self, channel by channel.

    N x C x h x w to the same shape: ``m x + (1 - m) IN(x)`` with a gate m for each channel of each image.
    Normalisation has neither scale nor shift. In training a map needs more than one position. Source: Wu et
    al., CVPR 2021 (modality alleviation module).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = ChannelGate(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Gate and blend."""
        gate = self.gate(features)
        return gate * features + (1 - gate) * F.instance_norm(features)
