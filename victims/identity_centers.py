"""Mean vectors of the identities of a batch."""

from __future__ import annotations

from torch import Tensor

from vbench.victims.widen import widen


def identity_centers(vectors: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centers I x D of the I identities of N x D ``vectors``, in float32 or wider.

    Also each row's identity (N, indices into the centers) and the number of rows of each (I). Identities
    stand in the order of their labels.
    """
    vectors = widen(vectors)
    identities, which, counts = labels.unique(return_inverse=True, return_counts=True)
    # Summed outside of a matrix product, which automatic mixed precision would round.
    sums = vectors.new_zeros(len(identities), vectors.shape[1]).index_add(0, which, vectors)
    return sums / counts[:, None], which, counts
