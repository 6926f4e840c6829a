"""Channel gate, part attention, graph attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vbench.victims.layers.pooling import bn_neck
from vbench.victims.training.batches import drop_elements

#: A gate has this many times fewer hidden channels.
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
        # Not mean(): instance normalisation would make the difference to the authors' order of summation
        # visible.
        average = F.avg_pool2d(features, features.shape[2:])
        return self.excite(F.relu(self.squeeze(average))).sigmoid()


class PartAttention(nn.Module):
    """Refines a vector by attention between the horizontal stripes of its map.

    The ``count`` stripes of an N x ``channels`` x h x w map are average pooled; each attends to all by
    ``softmax(q k^T) v``, without scaling of the product. Their mean, weighted by softmax(gate), is added to
    the vector, and the sum goes through a batch normalisation. Source: Ye et al., ECCV 2020, section 3.2;
    the vector added is the one after the neck, as in the released code.
    """

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels, kernel_size=1)
        self.key = nn.Conv2d(channels, channels, kernel_size=1)
        self.value = nn.Conv2d(channels, channels, kernel_size=1)
        self.gate = nn.Parameter(torch.empty(count))
        self.neck = bn_neck(channels)

    def draw_weights(self, generator: torch.Generator) -> None:
        """Start with stripes of equal weight; uses no random numbers."""
        nn.init.constant_(self.gate, 1 / len(self.gate))

    def forward(self, features: Tensor, vectors: Tensor) -> Tensor:
        """Return N x ``channels`` refined ``vectors`` (N x ``channels``) of the maps ``features``."""
        stripes = F.adaptive_avg_pool2d(features, (len(self.gate), 1))
        query, key, value = (
            layer(stripes).squeeze(3).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        # Not a matrix product, which in half precision would round the unscaled, large scores.
        scores = (query[:, :, None] * key[:, None]).sum(dim=3)
        refined = scores.softmax(dim=2) @ value
        return self.neck((refined * self.gate.softmax(dim=0)[:, None]).sum(dim=1) + vectors)


class GraphAttention(nn.Module):
    """One attention layer over linked nodes: N x ``incoming`` to N x ``outgoing``.

    With h = x W, node i takes ``sum_j softmax_j(leaky_relu(a1.h_i + a2.h_j)) h_j`` over the nodes j linked to
    it. ``scores`` holds a1 above a2. Source: Velickovic et al., ICLR 2018, equations 1-4, with the slope 0.2
    given there.
    """

    def __init__(self, incoming: int, outgoing: int, slope: float = 0.2) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(incoming, outgoing))
        self.scores = nn.Parameter(torch.empty(2 * outgoing, 1))
        self.slope = slope

    def draw_weights(self, generator: torch.Generator) -> None:
        """Xavier-uniform weights with a gain for rectifiers."""
        for parameter in (self.weight, self.scores):
            nn.init.xavier_uniform_(parameter, gain=2**0.5, generator=generator)

    def forward(self, nodes: Tensor, linked: Tensor, dropout: float, generator: torch.Generator) -> Tensor:
        """Mix ``nodes`` by attention; ``linked`` is N x N, true where row takes from column.

        Every row needs a link. Each attention weight is dropped with probability ``dropout``.
        """
        mapped = nodes @ self.weight
        own, other = self.scores.view(2, -1)
        # a.[h_i; h_j] splits into two products, so no N x N stack of concatenations is made.
        scores = F.leaky_relu((mapped @ own)[:, None] + (mapped @ other)[None, :], self.slope)
        attention = scores.masked_fill(~linked, -torch.inf).softmax(dim=1)
        return drop_elements(attention, dropout, generator) @ mapped


class GraphClassifier(nn.Module):
    """Identity logits of the images of a batch, each computed from all images of its identity.

    ``heads`` parallel attention layers of ``width`` outputs, ELU, one more layer to ``classes``, ELU. All
    images of one identity, of both modalities, are linked, also each with itself. Source: Ye et al., ECCV
    2020, section 3.3, equations 6-8.
    """

    def __init__(self, channels: int, width: int, heads: int, classes: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(GraphAttention(channels, width) for _ in range(heads))
        self.out = GraphAttention(width * heads, classes)

    def forward(self, vectors: Tensor, labels: Tensor, dropout: float, generator: torch.Generator) -> Tensor:
        """N x C logits of N x ``channels`` vectors with N labels; training only.

        Inputs of both layers and attention weights are dropped with probability ``dropout``; ``generator`` is
        on the device of ``vectors``.
        """
        linked = labels[:, None] == labels[None, :]
        nodes = drop_elements(vectors, dropout, generator)
        mixed = [F.elu(head(nodes, linked, dropout, generator)) for head in self.heads]
        nodes = drop_elements(torch.cat(mixed, dim=1), dropout, generator)
        return F.elu(self.out(nodes, linked, dropout, generator))


class ChannelAttention(nn.Module):
    """Mixes the channels of the stage's input by their products with channels of its output.

    ``y = (theta(high) phi(low)^T / c) g(low)`` over the c channels of ``low``; returned is ``high +
    BN(project y)``. ``stride`` is that of the stage. Source: Zhang et al., CVPR 2023 (channel non-local).
    """

    def __init__(self, high: int, low: int, stride: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(high, low, kernel_size=1)
        self.phi = nn.Conv2d(low, low, kernel_size=1, stride=stride)
        # The authors stride in the projection; mixing acts on single positions, so striding first is
        # equivalent.
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
    """Adds information from positions of the stage's input to every position of its output.

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
        # In the authors' order: the product of three factors amplifies rounding, so another order would break
        # parity.
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
        """Initialise the block as the identity, so that it does not change a pretrained trunk."""
        for norm in (self.channel.norm, self.position.norm):
            nn.init.zeros_(norm.weight)
