"""DDAG's cross-modality graph attention over the images of a training batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vbench.victims.dropping import drop_elements


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
    """Identity logits of the images of a batch, each seen together with all images of its identity.

    ``heads`` attention layers of ``width`` outputs side by side, ELU, one more layer to ``classes``, ELU.
    Images of one identity are linked, an image with itself too, whatever their modality. Source: Ye et al.,
    ECCV 2020, section 3.3, equations 6-8.
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
