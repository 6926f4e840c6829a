"""What a ranking evaluation returns: the per-query values first, their means beside them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vbench.errors import BadInput


@dataclass(frozen=True)
class RankMetrics:
    """Ranking quality of Q queries against one gallery; every tensor is on the CPU.

    A query is *valid* if its identity is left in the gallery after removal. Every mean below is over valid
    queries only. Per-query tensors have length Q, in query order.

    ``cmc``: float64, length ``min(max_rank, gallery images)``; ``cmc[k - 1]`` is Rank-k in [0, 1].
    ``mAP``, ``mINP``: means in [0, 1] of the two per-query values below.
    ``first_match_rank``: int64, 1-based rank of the first correct match as the protocol's CMC counts it
    (over identities in sysu and llcm, over images in regdb); 0 for a query that is not valid.
    ``average_precision``: float64 in (0, 1], NaN if not valid. Divided by ALL kept images of the identity.
    ``inverse_negative_penalty``: float64 in (0, 1], NaN if not valid: kept images of the identity divided
    by the rank of the last of them (Ye et al., 2021, "Deep Learning for Person Re-identification").
    ``valid``: bool.
    ``tied``: bool; some kept image of the identity and some kept image of another are exactly equally far,
    so that the query's result follows from gallery order and not from the distances.
    ``tied_share``: share of valid queries that are tied.
    """

    cmc: Tensor
    mAP: float
    mINP: float
    first_match_rank: Tensor
    average_precision: Tensor
    inverse_negative_penalty: Tensor
    valid: Tensor
    tied: Tensor
    tied_share: float

    def rank(self, k: int) -> float:
        """Rank-k in [0, 1]: share of valid queries with a first match at rank ``k`` or better.

        Works for any ``k`` >= 1, also beyond the length of ``cmc``.
        """
        if k < 1:
            raise BadInput(f"Rank-k starts at k = 1, got {k}")
        return float((self.first_match_rank[self.valid] <= k).double().mean())


def summarise(
    first_match_rank: Tensor,
    average_precision: Tensor,
    inverse_negative_penalty: Tensor,
    tied: Tensor,
    cmc_length: int,
) -> RankMetrics:
    """Reduce per-query values to :class:`RankMetrics`; :class:`BadInput` if no query is valid."""
    valid = first_match_rank > 0
    count = int(valid.sum())
    if count == 0:
        raise BadInput("no query has a match in its gallery; do the ids of query and gallery fit together?")
    hits = torch.bincount(first_match_rank[valid].clamp(max=cmc_length + 1), minlength=cmc_length + 2)
    return RankMetrics(
        cmc=hits[1 : cmc_length + 1].cumsum(0).double() / count,
        mAP=float(average_precision[valid].mean()),
        mINP=float(inverse_negative_penalty[valid].mean()),
        first_match_rank=first_match_rank,
        average_precision=average_precision,
        inverse_negative_penalty=inverse_negative_penalty,
        valid=valid,
        tied=tied,
        tied_share=float(tied[valid].double().mean()),
    )
