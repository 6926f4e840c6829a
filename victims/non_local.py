"""The non-local block that AGW inserts between residual blocks."""

from __future__ import annotations

from torch import Tensor, nn


class NonLocal(nn.Module):
    """``x + BN(W y)`` with ``y_i = 1/N sum_j theta(x_i) phi(x_j) g(x_j)`` over the N positions of a map.

    All projections are 1x1 convolutions to ``inner`` channels. The released AGW code uses one inner
    channel and divides by N where Wang et al. (CVPR 2018, equation 6 with the dot-product kernel) may use
    a softmax. Maps are N x ``channels`` x h x w and keep their shape.
    """

    def __init__(self, channels: int, inner: int = 1) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, inner, kernel_size=1)
        self.phi = nn.Conv2d(channels, inner, kernel_size=1)
        self.g = nn.Conv2d(channels, inner, kernel_size=1)
        self.project = nn.Conv2d(inner, channels, kernel_size=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Return the map with the non-local term added."""
        batch, _, height, width = features.shape
        theta = self.theta(features).flatten(2)
        phi = self.phi(features).flatten(2)
        g = self.g(features).flatten(2)
        # phi g^T first: it is inner x inner, where theta^T phi would be positions x positions.
        mixed = (phi @ g.transpose(1, 2)) / (height * width)
        y = (theta.transpose(1, 2) @ mixed).transpose(1, 2).reshape(batch, -1, height, width)
        return features + self.norm(self.project(y))
