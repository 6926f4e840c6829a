"""Unit-length embeddings."""

from __future__ import annotations

from torch import Tensor


def l2_normalise(vectors: Tensor) -> Tensor:
    """Divide each row of an N x D tensor by its Euclidean length.

    No epsilon, as in the AGW line of released code: a zero row becomes NaN, which the benchmark refuses,
    instead of an embedding that is equally far from everything.
    """
    return vectors / vectors.pow(2).sum(dim=1, keepdim=True).sqrt()
