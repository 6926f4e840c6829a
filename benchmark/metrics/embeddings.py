"""Ranking straight from embeddings, so that no full distance matrix has to exist."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vbench.errors import BadInput, VbenchError, unknown_name
from vbench.metrics.labels import Labels, TrialLabels
from vbench.metrics.ranking import rank_blocks
from vbench.metrics.removal import Protocol
from vbench.metrics.result import RankMetrics
from vbench.types import SIMILARITIES

#: Distances held at once where the caller sets no chunk: enough queries for an efficient matrix product.
_ENTRIES = 1 << 22


def rank_embeddings(
    query: Tensor,
    gallery: Tensor,
    query_ids: Labels,
    gallery_ids: Labels,
    query_cams: Labels | None = None,
    gallery_cams: Labels | None = None,
    similarity: str = "cosine",
    protocol: Protocol = "sysu",
    max_rank: int = 20,
    chunk: int | None = None,
) -> RankMetrics:
    """Do what :func:`vbench.metrics.rank_metrics` does on ``ranking_distance(query, gallery, similarity)``.

    ``query``: Q x D, ``gallery``: G x D, on one device. Beside a float64 copy of both, memory grows with
    ``chunk * G`` (queries worked on at once). Labels, protocol, means and errors as in ``rank_metrics``.
    """
    block = _distance_blocks(query, gallery, similarity)
    shape = (len(query), len(gallery))
    trial = TrialLabels.build(query_ids, gallery_ids, query_cams, gallery_cams, protocol, shape, query.device)
    if chunk is None:
        chunk = max(1, _ENTRIES // shape[1])
    return rank_blocks(block, trial, max_rank, chunk)


def ranking_distance(query: Tensor, gallery: Tensor, similarity: str = "cosine") -> Tensor:
    """Q x G float32 that orders the gallery of each query, nearest first; rows are not comparable.

    cosine: minus the cosine similarity. euclidean: squared distance less the query's own squared length.
    dot, dot-max, dot-min: minus the (largest, smallest) dot product, see :data:`vbench.types.SIMILARITIES`.
    Worked out in float64 and rounded to float32, so that embeddings that are equal, as after an attack that
    collapses them, give equal distances and count as ties instead of being ordered by rounding noise.

    Raises :class:`VbenchError` for an embedding that is not finite, :class:`BadInput` for a shape that does
    not fit.
    """
    return _distance_blocks(query, gallery, similarity)(slice(None))


def _distance_blocks(query: Tensor, gallery: Tensor, similarity: str) -> Callable[[slice], Tensor]:
    if similarity not in SIMILARITIES:
        raise unknown_name("similarity", similarity, SIMILARITIES)
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1]:
        raise BadInput(
            "embeddings must be queries x D and gallery x D, "
            f"got {tuple(query.shape)} and {tuple(gallery.shape)}"
        )
    query, gallery = _wide("query", query), _wide("gallery", gallery)
    if similarity == "cosine":
        query, gallery = normalize(query), normalize(gallery)
        return lambda rows: (-(query[rows] @ gallery.T)).float()
    if similarity == "dot":
        return lambda rows: (-(query[rows] @ gallery.T)).float()
    if similarity in ("dot-max", "dot-min"):
        return _paired_dots(query, gallery, similarity)
    squared = gallery.square().sum(1)
    return lambda rows: (squared - 2 * (query[rows] @ gallery.T)).float()


def _paired_dots(query: Tensor, gallery: Tensor, similarity: str) -> Callable[[slice], Tensor]:
    if query.shape[1] % 2:
        raise BadInput(f"similarity {similarity} takes embeddings of two equal halves, got {query.shape[1]}")
    choose = torch.maximum if similarity == "dot-max" else torch.minimum
    halves = query.chunk(2, dim=1)

    def distance(rows: slice) -> Tensor:
        dots = [half[rows] @ other.T for half in halves for other in gallery.chunk(2, dim=1)]
        return -choose(choose(dots[0], dots[1]), choose(dots[2], dots[3])).float()

    return distance


def _wide(side: str, embedding: Tensor) -> Tensor:
    embedding = embedding.detach()
    broken = (~torch.isfinite(embedding).all(1)).nonzero()
    if len(broken):
        raise VbenchError(
            f"{side} embedding {int(broken[0])} is not finite ({len(broken)} of {len(embedding)} are not)"
        )
    return embedding.double()
