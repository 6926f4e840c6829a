"""DEEN's multistage feature aggregation: attention between a stage's output and its input."""

from __future__ import annotations

from torch import Tensor, nn


class ChannelAttention(nn.Module):
    """Mixes the channels of the stage's input by their products with channels of its output.

    ``y = (theta(high) phi(low)^T / c) g(low)`` over the c channels of ``low``; returned is ``high +
    BN(project y)``. ``stride`` is that of the stage. Source: Zhang et al., CVPR 2023 (channel non-local).
    """

    def __init__(self, high: int, low: int, stride: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(high, low, kernel_size=1)
        self.phi = nn.Conv2d(low, low, kernel_size=1, stride=stride)
        # The authors stride in the projection; mixing acts on single positions, so the others may go first.
        self.g = nn.Conv2d(low, low, kernel_size=1, stride=stride)
        self.project = nn.Conv2d(low, high, kernel_size=1)
        self.norm = nn.BatchNorm2d(high)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """N x ``high`` x h x w with the attention added, from that and the stage's input."""
        g = self.g(low)
        scores = self.theta(high).flatten(2) @ self.phi(low).flatten(2).transpose(1, 2)
        mixed = (scores / scores.shape[2]) @ g.flatten(2)
        return high + self.norm(self.project(mixed.view_as(g)))


class PositionAttention(nn.Module):
    """Adds to every position of the stage's output what positions of its input hold.

    ``y_i = 1/P sum_j theta(high)_i phi(low)_j g(low)_j``; returned is ``high + BN(project y)``. The three
    projections have half of ``low``'s channels, but the authors lay their maps out as ``low`` channels of
    half as many positions: a position i (of P) is an upper one together with its counterpart in the lower
    half of the map, and stored weights expect it so. Source: Zhang et al., CVPR 2023 (position non-local).
    """

    def __init__(self, high: int, low: int) -> None:
        super().__init__()
        self.low = low
        self.theta = nn.Conv2d(high, low // 2, kernel_size=1)
        self.phi = nn.Conv2d(low, low // 2, kernel_size=1)
        self.g = nn.Conv2d(low, low // 2, kernel_size=1)
        self.project = nn.Conv2d(low // 2, high, kernel_size=1)
        self.norm = nn.BatchNorm2d(high)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """N x ``high`` x h x w with the attention added; both maps need an even number of positions."""
        theta, phi, g = (
            project(source).reshape(len(high), self.low, -1)
            for project, source in ((self.theta, high), (self.phi, low), (self.g, low))
        )
        # In the authors' order: three factors multiply rounding so that another order can be seen in parity.
        scores = theta.transpose(1, 2) @ phi
        mixed = (scores / scores.shape[2]) @ g.transpose(1, 2)
        mixed = mixed.transpose(1, 2).reshape(len(high), self.low // 2, *high.shape[2:])
        return high + self.norm(self.project(mixed))


class FeatureAggregation(nn.Module):
    """Channel attention, then position attention, of a stage's output to its input."""

    def __init__(self, high: int, low: int, stride: int) -> None:
        super().__init__()
        self.channel = ChannelAttention(high, low, stride)
        self.position = PositionAttention(high, low)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """N x ``high`` x h x w, from the stage's output and its N x ``low`` x H x W input."""
        return self.position(self.channel(high, low), low)

    def start_as_identity(self) -> None:
        """Let the block begin without effect, so that a pretrained trunk is not disturbed."""
        for norm in (self.channel.norm, self.position.norm):
            nn.init.zeros_(norm.weight)
