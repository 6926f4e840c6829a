"""Modality alleviation: channels that carry the modality are instance-normalised, the others are kept."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

#: A channel's gate is worked out from this many times fewer hidden channels.
_REDUCTION = 16


class ModalityAlleviation(nn.Module):
    """Blend a map with its instance-normalised self, channel by channel.

    N x C x h x w to the same shape: ``m x + (1 - m) IN(x)`` with a gate m in (0, 1) for each channel of each
    image, from two 1x1 convolutions on the averaged map. Normalisation has neither scale nor shift. In
    training a map needs more than one position. Source: Wu et al., CVPR 2021, equations 1-2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // _REDUCTION)
        self.squeeze = nn.Conv2d(channels, hidden, kernel_size=1, bias=False)
        self.excite = nn.Conv2d(hidden, channels, kernel_size=1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Gate and blend."""
        # Not mean(): its other order of summation shows in maps that the normalisation blows up.
        average = F.avg_pool2d(features, features.shape[2:])
        gate = self.excite(F.relu(self.squeeze(average))).sigmoid()
        return gate * features + (1 - gate) * F.instance_norm(features)
