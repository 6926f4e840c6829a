"""Distances between embeddings, as a victim itself compares them."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize


def comparable(embeddings: Tensor, similarity: str) -> Tensor:
    """Embeddings (N x D) whose Euclidean order is the victim's order: unit length for "cosine"."""
    return normalize(embeddings, dim=1) if similarity == "cosine" else embeddings


def squared_distance(a: Tensor, b: Tensor, similarity: str) -> Tensor:
    """Row by row squared Euclidean distance of comparable embeddings, N values."""
    return (comparable(a, similarity) - comparable(b, similarity)).square().sum(1)


def pairwise_squared(a: Tensor, b: Tensor, similarity: str) -> Tensor:
    """All squared distances between N x D and M x D embeddings, N x M, never negative."""
    a, b = comparable(a, similarity), comparable(b, similarity)
    return (a.square().sum(1, keepdim=True) + b.square().sum(1) - 2 * a @ b.T).clamp_min(0)
