"""A gate for each channel, from the channels' averages."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

#: A gate is worked out from this many times fewer hidden channels.
_REDUCTION = 16


class ChannelGate(nn.Module):
    """N x C x h x w to N x C x 1 x 1 in (0, 1): average, two 1x1 convolutions without biases, sigmoid.

    Source: Hu et al., CVPR 2018 (squeeze and excitation).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // _REDUCTION)
        self.squeeze = nn.Conv2d(channels, hidden, kernel_size=1, bias=False)
        self.excite = nn.Conv2d(hidden, channels, kernel_size=1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """The gates."""
        # Not mean(): another order of summation than the authors' would show after instance normalisation.
        average = F.avg_pool2d(features, features.shape[2:])
        return self.excite(F.relu(self.squeeze(average))).sigmoid()
