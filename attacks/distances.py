"""Distances between embeddings, as a victim itself compares them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize


def comparable(embeddings: Tensor, similarity: str) -> Tensor:
    """Embeddings (N x D) of the length that counts for the victim: unit length for "cosine"."""
    return normalize(embeddings, dim=1) if similarity == "cosine" else embeddings


def squared_distance(a: Tensor, b: Tensor, similarity: str) -> Tensor:
    """Row by row distance whose order is the victim's, N values.

    The squared Euclidean distance of comparable embeddings; for a ranking by dot products, -2 times the one
    that counts, which is the same up to the lengths that such a ranking ignores.
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
        # A common offset changes no distance, and would drown them all in rounding.
        middle = b.detach().mean(0)
        a, b = a - middle, b - middle
    return (a.square().sum(1, keepdim=True) + b.square().sum(1) - 2 * a @ b.T).clamp_min(0)


def _dot(a: Tensor, b: Tensor, similarity: str, product: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    if similarity == "dot":
        return product(a, b)
    dots = torch.stack([product(x, y) for x in a.chunk(2, dim=1) for y in b.chunk(2, dim=1)])
    return dots.amax(0) if similarity == "dot-max" else dots.amin(0)
