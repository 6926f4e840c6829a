"""Distances between embeddings, according to the similarity of the victim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

Distance = Literal["squared", "euclidean"]


def comparable(embeddings: Tensor, similarity: str) -> Tensor:
    """Embeddings (N x D) scaled as the victim compares them: to unit length for "cosine"."""
    return normalize(embeddings, dim=1) if similarity == "cosine" else embeddings


def squared_distance(a: Tensor, b: Tensor, similarity: str) -> Tensor:
    """Row-wise distance that orders as the victim's ranking does, N values.

    The squared Euclidean distance of comparable embeddings; for a ranking by dot products, -2 times the dot
    product, which is the same except for the squared lengths that such a ranking ignores.
    """
    if not similarity.startswith("dot"):
        return (comparable(a, similarity) - comparable(b, similarity)).square().sum(1)
    return -2 * _dot(a, b, similarity, lambda x, y: (x * y).sum(1))


def pairwise_squared(a: Tensor, b: Tensor, similarity: str) -> Tensor:
    """All such distances between N x D and M x D embeddings, N x M."""
    if similarity.startswith("dot"):
        return -2 * _dot(a, b, similarity, lambda x, y: x @ y.T)
    a, b = comparable(a, similarity), comparable(b, similarity)
    if similarity != "cosine":
        # A common offset changes no distance, but would lose them all to rounding.
        middle = b.detach().mean(0)
        a, b = a - middle, b - middle
    return (a.square().sum(1, keepdim=True) + b.square().sum(1) - 2 * a @ b.T).clamp_min(0)


def unsquared(squared: Tensor, similarity: str) -> Tensor:
    """Distances from squared ones; a distance made of dot products may be negative and is left as it is."""
    return squared if similarity.startswith("dot") else squared.clamp_min(1e-12).sqrt()


def _dot(a: Tensor, b: Tensor, similarity: str, product: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    if similarity == "dot":
        return product(a, b)
    dots = torch.stack([product(x, y) for x in a.chunk(2, dim=1) for y in b.chunk(2, dim=1)])
    return dots.amax(0) if similarity == "dot-max" else dots.amin(0)
