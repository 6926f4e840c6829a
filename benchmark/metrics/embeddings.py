"""Ranking straight from embeddings, so that no full distance matrix has to exist."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vbench.errors import BadInput, VbenchError, unknown_name
from vbench.metrics.labels import Labels, TrialLabels, number_tensor
from vbench.metrics.ranking import rank_blocks
from vbench.metrics.removal import Protocol
from vbench.metrics.result import RankMetrics
from vbench.types import SIMILARITIES

#: Distances held at once where the caller sets no chunk: enough queries for an efficient matrix product.
_ENTRIES = 1 << 22
#: Coordinates held at once where differences are written out.
_COORDINATES = 1 << 24
#: Share of the squared lengths below which their difference, a squared distance, has lost too many digits.
_CANCELLED = 2.0**-16
#: Powers of two whose squares and products float64 holds; no float32 lies beyond.
_SAFE = 400
#: Bits of a float32 that count; a float64 has 53.
_SIGNIFICANT = 24


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

    ``query``: Q x D, ``gallery``: G x D, real numbers of any type and size, on one device. Beside a float64
    copy of both, memory grows with ``chunk * G`` (queries worked on at once). Labels, protocol, means and
    errors as in ``rank_metrics``.
    """
    query, gallery = number_tensor("query", query), number_tensor("gallery", gallery)
    block = _distance_blocks(query, gallery, similarity)
    shape = (len(query), len(gallery))
    trial = TrialLabels.build(query_ids, gallery_ids, query_cams, gallery_cams, protocol, shape, query.device)
    if chunk is None:
        chunk = max(1, _ENTRIES // shape[1])
    return rank_blocks(block, trial, max_rank, chunk)


def ranking_distance(query: Tensor, gallery: Tensor, similarity: str = "cosine") -> Tensor:
    """Q x G that orders the gallery of each query, nearest first.

    cosine: minus the cosine similarity, 0 for an embedding of length 0. euclidean: the squared distance.
    dot, dot-max, dot-min: minus the (largest, smallest) dot product, see :data:`vbench.types.SIMILARITIES`.
    Worked out in float64 and rounded to float32 (float64 of as many significant bits where its range is too
    small), so that embeddings that are equal, as after an attack that collapses them, give equal distances
    and count as ties instead of being ordered by rounding noise. Adding one vector to all embeddings changes
    no Euclidean distance, multiplying all by a power of two no ranking. Embeddings beyond 2^400 or below
    2^-400 are scaled first.

    Raises :class:`VbenchError` for an embedding that is not finite, :class:`BadInput` for a shape or a type
    that does not fit.
    """
    query, gallery = number_tensor("query", query), number_tensor("gallery", gallery)
    return _distance_blocks(query, gallery, similarity)(slice(None))


def _distance_blocks(query: Tensor, gallery: Tensor, similarity: str) -> Callable[[slice], Tensor]:
    if similarity not in SIMILARITIES:
        raise unknown_name("similarity", similarity, SIMILARITIES)
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1] or not query.shape[1]:
        raise BadInput(
            "embeddings must be queries x D and gallery x D, "
            f"got {tuple(query.shape)} and {tuple(gallery.shape)}"
        )
    query, gallery = _wide("query", query), _wide("gallery", gallery)
    if not len(query) or not len(gallery):
        return lambda rows: query.new_zeros(len(query[rows]), len(gallery))
    # Equal embeddings get one distance, wherever they stand.
    gallery, place = torch.unique(gallery, dim=0, return_inverse=True)
    distance = _DISTANCES[similarity](query, gallery)
    return lambda rows: _rounded(distance(rows)).index_select(1, place)


def _cosine(query: Tensor, gallery: Tensor) -> Callable[[slice], Tensor]:
    # normalize() alone takes embeddings shorter than 1e-12 for zero.
    query, gallery = (normalize(side / _largest(side)) for side in (query, gallery))
    return lambda rows: -(query[rows] @ gallery.T)


def _dot(query: Tensor, gallery: Tensor) -> Callable[[slice], Tensor]:
    query, gallery = _near_one(query, query), _near_one(gallery, gallery)
    return lambda rows: -(query[rows] @ gallery.T)


def _paired_dots(choose: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Callable[[slice], Tensor]]:
    def blocks(query: Tensor, gallery: Tensor) -> Callable[[slice], Tensor]:
        if query.shape[1] % 2:
            raise BadInput(f"this similarity takes embeddings of two equal halves, got {query.shape[1]}")
        query, gallery = _near_one(query, query), _near_one(gallery, gallery)
        halves, others = query.chunk(2, dim=1), gallery.chunk(2, dim=1)

        def distance(rows: slice) -> Tensor:
            dots = [half[rows] @ other.T for half in halves for other in others]
            return -choose(choose(dots[0], dots[1]), choose(dots[2], dots[3]))

        return distance

    return blocks


def _squared_euclidean(query: Tensor, gallery: Tensor) -> Callable[[slice], Tensor]:
    """Through a matrix product, and where that loses the digits, which is rare, through differences."""
    query, gallery = _near_one(query, query, gallery), _near_one(gallery, query, gallery)
    # Lengths from the middle of the gallery, since a common offset would drown the distances. The middle one
    # of the values there are, so that differences of float32 values from it are exact.
    centre = gallery.median(0).values
    near, far = query - centre, gallery - centre
    own, other = near.square().sum(1, keepdim=True), far.square().sum(1)

    def distance(rows: slice) -> Tensor:
        lengths = own[rows] + other
        found = lengths - 2 * (near[rows] @ far.T)
        row, column = (found < _CANCELLED * lengths).nonzero(as_tuple=True)
        step = max(1, _COORDINATES // query.shape[1])
        for start in range(0, len(row), step):
            pair = row[start : start + step], column[start : start + step]
            found[pair] = (query[rows][pair[0]] - gallery[pair[1]]).square().sum(1)
        return found

    return distance


_DISTANCES = {
    "cosine": _cosine,
    "euclidean": _squared_euclidean,
    "dot": _dot,
    "dot-max": _paired_dots(torch.maximum),
    "dot-min": _paired_dots(torch.minimum),
}


def _near_one(embeddings: Tensor, *sides: Tensor) -> Tensor:
    """``embeddings``; times the power of two that brings the largest of ``sides`` near 1, if that is far."""
    exponent = math.frexp(max(float(side.abs().max()) for side in sides))[1]
    if abs(exponent) <= _SAFE:
        return embeddings
    # In two steps, since the power itself may be out of range.
    return embeddings * 2.0 ** -(exponent // 2) * 2.0 ** -(exponent - exponent // 2)


def _largest(embeddings: Tensor) -> Tensor:
    found = embeddings.abs().amax(1, keepdim=True)
    return found.where(found > 0, 1.0)


def _rounded(distance: Tensor) -> Tensor:
    """Rounded to float32; to as many significant bits in float64 where the range of float32 is too small."""
    narrow = distance.float()
    if bool(((narrow.double() - distance).abs() <= distance.abs() * 2.0**-_SIGNIFICANT).all()):
        return narrow
    spare = 53 - _SIGNIFICANT
    bits = distance.view(torch.int64)
    return ((bits + (1 << (spare - 1))) & -(1 << spare)).view(torch.float64)


def _wide(side: str, embedding: Tensor) -> Tensor:
    broken = (~torch.isfinite(embedding).all(1)).nonzero()
    if len(broken):
        raise VbenchError(
            f"{side} embedding {int(broken[0])} is not finite ({len(broken)} of {len(embedding)} are not)"
        )
    return embedding.double()
