"""CMC, mAP and mINP from distances or embeddings, under each data set's rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from vbench.core.errors import BadInput, VbenchError, unknown_name
from vbench.core.types import SIMILARITIES, RankingRule
from vbench.metrics.labels import IDENTITY_CMC, Labels, TrialLabels, number_tensor, removed

#: Up to this many matches per query, counting nearer entries is faster than sorting the row; measured on a
#: CPU with 301 and 3010 gallery images, where both take the same time between 32 and 48.
_COUNT_UP_TO = 32


@dataclass(frozen=True)
class Positions:
    """Ranks of M columns per row; both tensors are rows x M int64.

    ``rank``: 1-based rank of the column in its row, nearest first, ties by column number.
    ``equal``: number of columns of the row at exactly the same distance, itself included.
    """

    rank: Tensor
    equal: Tensor


def positions(distance: Tensor, columns: Tensor) -> Positions:
    """Find the ranks of ``columns`` (rows x M int64) in the rows of ``distance`` (rows x G, no NaN)."""
    if columns.shape[1] <= _COUNT_UP_TO:
        return _by_counting(distance, columns)
    return _by_sorting(distance, columns)


def nearer(distance: Tensor, column: Tensor) -> Tensor:
    """Mark the columns ranked before ``column`` (length rows) in each row: rows x G bool."""
    own = distance.gather(1, column[:, None])
    before = distance < own
    tied_rows = (_row_counts(distance == own) > 1).nonzero()[:, 0]
    if len(tied_rows):
        before[tied_rows] |= _equal_before(distance, column, tied_rows)
    return before


def _equal_before(distance: Tensor, column: Tensor, rows: Tensor) -> Tensor:
    block, column = distance[rows], column[rows, None]
    number = torch.arange(distance.shape[1], device=distance.device)
    return (block == block.gather(1, column)) & (number < column)


def _row_counts(mask: Tensor) -> Tensor:
    # Summed in 32 bits: the default would first copy the whole mask to int64.
    return mask.sum(1, dtype=torch.int32)


def _by_counting(distance: Tensor, columns: Tensor) -> Positions:
    values = distance.gather(1, columns)
    rank, equal = torch.empty_like(columns), torch.empty_like(columns)
    for slot in range(columns.shape[1]):
        own = values[:, slot, None]
        less = _row_counts(distance < own)
        equal[:, slot] = _row_counts(distance <= own) - less
        rank[:, slot] = less + 1
        tied_rows = (equal[:, slot] > 1).nonzero()[:, 0]
        if len(tied_rows):
            rank[tied_rows, slot] += _equal_before(distance, columns[:, slot], tied_rows).sum(1)
    return Positions(rank, equal)


def _by_sorting(distance: Tensor, columns: Tensor) -> Positions:
    ranked, order = distance.sort(dim=1, stable=True)
    place = torch.empty_like(order)
    place.scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
    values = distance.gather(1, columns)
    equal = torch.searchsorted(ranked, values, right=True) - torch.searchsorted(ranked, values)
    return Positions(place.gather(1, columns) + 1, equal)


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
    ``tied``: bool; some kept image of the identity and some kept image of another are at exactly the same
    distance, so that the query's result depends on gallery order.
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


#: Distances in memory at once if the caller sets no chunk: few enough for a CPU's cache, enough for a GPU.
_ENTRIES = {"cpu": 1 << 18, "cuda": 1 << 24}


def rank_metrics(
    distance: Tensor | np.ndarray,
    query_ids: Labels,
    gallery_ids: Labels,
    query_cams: Labels | None = None,
    gallery_cams: Labels | None = None,
    protocol: RankingRule = "sysu",
    max_rank: int = 20,
    chunk: int | None = None,
) -> RankMetrics:
    """Rank the gallery for every query, nearest first, and measure the ranking.

    ``distance``: Q x G floating point, any device, any scale, smaller is nearer. Ids and cameras: integers of
    length Q and G, of any size and sign. All may be tensors, arrays or anything NumPy makes an array of.
    ``chunk``: queries processed at once (memory grows with ``chunk * G``); the result does not depend on it.

    Removal (junk). sysu: gallery camera 2 for queries of camera 3, and vice versa; llcm: images of the
    query's own identity and camera; regdb: nothing. Removed images have no rank.
    CMC. sysu, llcm: the kept list reduced to identities, each at its best image; regdb: images. Denominator:
    valid queries. mAP and mINP always use the full kept list; denominators in :class:`RankMetrics`.
    Ties. The image that comes first in the gallery ranks first.
    No match. A query whose identity is not among its kept gallery images enters no mean.

    The rules are those of the evaluation code published with AGW (sysu, regdb) and DEEN (llcm).

    Raises :class:`BadInput` for shapes or labels that do not fit, missing cameras or no valid query, and
    :class:`VbenchError` for a distance that is not finite.
    """
    distance = number_tensor("distance", distance)
    if distance.ndim != 2 or not distance.is_floating_point():
        got = f"{str(distance.dtype).removeprefix('torch.')} of shape {tuple(distance.shape)}"
        raise BadInput(f"distance must be a floating-point matrix of queries x gallery, got {got}")
    shape = (distance.shape[0], distance.shape[1])
    trial = TrialLabels.build(
        query_ids, gallery_ids, query_cams, gallery_cams, protocol, shape, distance.device
    )
    return rank_blocks(lambda rows: distance[rows], trial, max_rank, chunk)


def rank_blocks(
    block: Callable[[slice], Tensor], trial: TrialLabels, max_rank: int, chunk: int | None
) -> RankMetrics:
    """Like :func:`rank_metrics`, with ``block(rows)`` returning the distances of a few queries at a time."""
    queries, gallery = trial.shape
    if max_rank < 1:
        raise BadInput(f"max_rank must be at least 1, got {max_rank}")
    if chunk is None:
        chunk = max(1, _ENTRIES.get(trial.query_ids.device.type, _ENTRIES["cpu"]) // gallery)
    elif chunk < 1:
        raise BadInput(f"chunk must be at least 1 query, got {chunk}")
    parts = []
    for start in range(0, queries, chunk):
        rows = slice(start, min(start + chunk, queries))
        parts.append(_rank_block(_checked(block(rows), start), trial, rows))
    first, precision, penalty, tied = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    return summarise(first, precision, penalty, tied, min(max_rank, gallery))


def _checked(distance: Tensor, start: int) -> Tensor:
    if distance.dtype in (torch.float16, torch.bfloat16):
        distance = distance.float()
    low, high = torch.aminmax(distance.detach())
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        row, column = (~torch.isfinite(distance)).nonzero()[0].tolist()
        value = distance[row, column].item()
        raise VbenchError(
            f"distance of query {start + row} and gallery image {column} is {value}; "
            "an embedding is not finite or overflows"
        )
    return distance.detach()


def _rank_block(distance: Tensor, trial: TrialLabels, rows: slice) -> tuple[Tensor, ...]:
    """Per query of the block: first match rank, average precision, inverse negative penalty, tied."""
    junk = removed(
        trial.protocol,
        trial.query_ids[rows],
        trial.gallery_ids,
        None if trial.query_cams is None else trial.query_cams[rows],
        trial.gallery_cams,
    )
    if junk is not None:
        distance = distance.masked_fill(junk, torch.inf)
    matches = trial.matches[rows, None]
    slot = torch.arange(max(1, int(matches.max())), device=distance.device)
    columns = trial.order[(trial.first[rows, None] + slot).clamp(max=distance.shape[1] - 1)]
    own = distance.gather(1, columns)
    kept = (slot < matches) & torch.isfinite(own)
    count = kept.sum(1)
    valid = count > 0

    found = positions(distance, columns)
    rank = found.rank.where(kept, distance.shape[1] + 1)
    place = rank.sort(dim=1).values
    # cumsum adds in rank order whatever the padding, so that the result does not depend on the block size.
    precision = torch.where(slot < count[:, None], (slot + 1) / place.double(), 0.0).cumsum(1)[:, -1]
    last = place.gather(1, (count - 1).clamp(min=0)[:, None])[:, 0]

    own = own.where(kept, torch.inf)
    equal_matches = torch.stack([(own == own[:, s, None]).sum(1) for s in slot.tolist()], dim=1)
    tied = (kept & (found.equal > equal_matches)).any(1)

    if trial.protocol in IDENTITY_CMC:
        best = columns.gather(1, rank.argmin(1, keepdim=True))[:, 0]
        first = _identity_rank(distance, best, trial)
    else:
        first = place[:, 0]
    nan = torch.nan
    return (
        first.where(valid, 0),
        (precision / count).where(valid, nan),
        (count / last.double()).where(valid, nan),
        tied,
    )


def _identity_rank(distance: Tensor, best: Tensor, trial: TrialLabels) -> Tensor:
    """1 + number of identities with an image before column ``best`` of each row."""
    before = nearer(distance, best).index_select(1, trial.order).cumsum(1, dtype=torch.int32)
    seen = before.index_select(1, trial.group_end)
    return (seen.diff(dim=1, prepend=torch.zeros_like(seen[:, :1])) > 0).sum(1) + 1


#: Distances in memory at once if the caller sets no chunk: enough queries for an efficient matrix product.
_EMBEDDING_ENTRIES = {"cpu": 1 << 22, "cuda": 1 << 25}

#: Coordinates in memory at once where differences of embeddings are computed.
_COORDINATES = 1 << 24

#: A squared distance below this share of the squared lengths it was computed from is too inexact.
_CANCELLED = 2.0**-16

#: Embeddings up to this power of two have squares and products within float64; all float32 values do.
_SAFE = 400

#: Significant bits of a float32; a float64 has 53.
_SIGNIFICANT = 24


def rank_embeddings(
    query: Tensor,
    gallery: Tensor,
    query_ids: Labels,
    gallery_ids: Labels,
    query_cams: Labels | None = None,
    gallery_cams: Labels | None = None,
    similarity: str = "cosine",
    protocol: RankingRule = "sysu",
    max_rank: int = 20,
    chunk: int | None = None,
) -> RankMetrics:
    """Equals :func:`vbench.metrics.rank_metrics` of ``ranking_distance(query, gallery, similarity)``.

    ``query``: Q x D, ``gallery``: G x D, real numbers of any type and size, on one device. Memory: a float64
    copy of both, and ``chunk * G`` distances (``chunk``: queries processed at once). Labels, protocol, means
    and errors as in ``rank_metrics``.
    """
    query, gallery = number_tensor("query", query), number_tensor("gallery", gallery)
    block = _distance_blocks(query, gallery, similarity)
    shape = (len(query), len(gallery))
    trial = TrialLabels.build(query_ids, gallery_ids, query_cams, gallery_cams, protocol, shape, query.device)
    if chunk is None:
        entries = _EMBEDDING_ENTRIES.get(query.device.type, _EMBEDDING_ENTRIES["cpu"])
        chunk = max(1, entries // shape[1])
    return rank_blocks(block, trial, max_rank, chunk)


def ranking_distance(query: Tensor, gallery: Tensor, similarity: str = "cosine") -> Tensor:
    """Q x G distances that order the gallery of each query, nearest first.

    cosine: minus the cosine similarity, 0 for an embedding of length 0. euclidean: the squared distance.
    dot, dot-max, dot-min: minus the (largest, smallest) dot product, see
    :data:`vbench.core.types.SIMILARITIES`.
    Computed in float64 and rounded to float32 (or to as many significant bits in float64 if out of float32's
    range), so that equal embeddings, as after an attack that collapses them, give equal distances and count
    as ties instead of being ordered by rounding noise. Adding one vector to all embeddings changes no
    Euclidean distance; multiplying all by a power of two changes no ranking. Embeddings beyond 2^400 or below
    2^-400 are scaled first.

    Raises :class:`VbenchError` for an embedding that is not finite, :class:`BadInput` for a wrong shape or
    type.
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
    query, gallery = _checked_float64("query", query), _checked_float64("gallery", gallery)
    if not len(query) or not len(gallery):
        return lambda rows: query.new_zeros(len(query[rows]), len(gallery))
    # Compute the distance to equal gallery embeddings once, so that it is exactly equal.
    gallery, place = torch.unique(gallery, dim=0, return_inverse=True)
    distance = _DISTANCES[similarity](query, gallery)
    return lambda rows: _round_to_float32(distance(rows)).index_select(1, place)


def _cosine(query: Tensor, gallery: Tensor) -> Callable[[slice], Tensor]:
    # normalize() alone treats embeddings shorter than 1e-12 as zero.
    query, gallery = (normalize(side / _row_maximum(side)) for side in (query, gallery))
    return lambda rows: -(query[rows] @ gallery.T)


def _dot(query: Tensor, gallery: Tensor) -> Callable[[slice], Tensor]:
    query, gallery = _scaled(query, query), _scaled(gallery, gallery)
    return lambda rows: -(query[rows] @ gallery.T)


def _paired_dots(choose: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Callable[[slice], Tensor]]:
    def blocks(query: Tensor, gallery: Tensor) -> Callable[[slice], Tensor]:
        if query.shape[1] % 2:
            raise BadInput(f"this similarity takes embeddings of two equal halves, got {query.shape[1]}")
        query, gallery = _scaled(query, query), _scaled(gallery, gallery)
        halves, others = query.chunk(2, dim=1), gallery.chunk(2, dim=1)

        def distance(rows: slice) -> Tensor:
            dots = [half[rows] @ other.T for half in halves for other in others]
            return -choose(choose(dots[0], dots[1]), choose(dots[2], dots[3]))

        return distance

    return blocks


def _squared_euclidean(query: Tensor, gallery: Tensor) -> Callable[[slice], Tensor]:
    """By a matrix product; by differences for the few pairs where that is too inexact."""
    query, gallery = _scaled(query, query, gallery), _scaled(gallery, query, gallery)
    # Centred on the gallery, since a common offset would make the product inexact; on the median, which is
    # one of the values, so that subtracting it from float32 values is exact.
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


def _scaled(embeddings: Tensor, *sides: Tensor) -> Tensor:
    """``embeddings``, scaled by a power of two so that the largest of ``sides`` is near 1, if far from it."""
    exponent = math.frexp(max(float(side.abs().max()) for side in sides))[1]
    if abs(exponent) <= _SAFE:
        return embeddings
    # In two steps, since the power itself may overflow.
    return embeddings * 2.0 ** -(exponent // 2) * 2.0 ** -(exponent - exponent // 2)


def _row_maximum(embeddings: Tensor) -> Tensor:
    found = embeddings.abs().amax(1, keepdim=True)
    return found.where(found > 0, 1.0)


def _round_to_float32(distance: Tensor) -> Tensor:
    """Rounded to float32, or to as many significant bits in float64 if out of float32's range."""
    narrow = distance.float()
    if bool(((narrow.double() - distance).abs() <= distance.abs() * 2.0**-_SIGNIFICANT).all()):
        return narrow
    spare = 53 - _SIGNIFICANT
    bits = distance.view(torch.int64)
    return ((bits + (1 << (spare - 1))) & -(1 << spare)).view(torch.float64)


def _checked_float64(side: str, embedding: Tensor) -> Tensor:
    broken = (~torch.isfinite(embedding).all(1)).nonzero()
    if len(broken):
        raise VbenchError(
            f"{side} embedding {int(broken[0])} is not finite ({len(broken)} of {len(embedding)} are not)"
        )
    return embedding.double()


@dataclass(frozen=True)
class Chance:
    """What a random order of the gallery is expected to reach; fields as of :class:`RankMetrics`."""

    cmc: Tensor
    mAP: float
    mINP: float

    def rank(self, k: int) -> float:
        """Rank-k in [0, 1], for ``k`` up to the length of ``cmc``."""
        return float(self.cmc[k - 1])


def chance(
    query_ids: Labels,
    gallery_ids: Labels,
    query_cams: Labels | None = None,
    gallery_cams: Labels | None = None,
    protocol: RankingRule = "sysu",
    max_rank: int = 20,
) -> Chance:
    """The expected metrics of one trial if every order of the kept gallery images is equally likely.

    Labels, removal, CMC and means as in :func:`rank_metrics`. Of a query with m matches among n kept images
    the expected average precision is H/n + (m - 1) (n - H) / (n (n - 1)) with H = 1 + 1/2 + ... + 1/n, and
    the last match is at rank r with probability C(r - 1, m - 1) / C(n, m). For the CMC over identities, let
    every image have a random place in [0, 1]: others are before the first match at t independently of each
    other.
    """
    shape = (len(query_ids), len(gallery_ids))
    cpu = torch.device("cpu")
    trial = TrialLabels.build(query_ids, gallery_ids, query_cams, gallery_cams, protocol, shape, cpu)
    junk = removed(protocol, trial.query_ids, trial.gallery_ids, trial.query_cams, trial.gallery_cams)
    kept = torch.ones(shape, dtype=torch.bool) if junk is None else ~junk
    identities, column = trial.gallery_ids.unique(return_inverse=True)
    sizes = torch.zeros(shape[0], len(identities), dtype=torch.int64).index_add_(1, column, kept.long())
    own = identities == trial.query_ids[:, None]
    matches = (sizes * own).sum(1)
    # Queries with as many matches and equally many other identities of every size have the same chance.
    others = torch.stack([((sizes == size) & ~own).sum(1) for size in range(1, int(sizes.max()) + 1)], 1)
    cases, count = torch.cat([matches[:, None], others], 1)[matches > 0].unique(dim=0, return_counts=True)
    if len(cases) == 0:
        raise BadInput("no query has a match in its gallery; do the ids of query and gallery fit together?")
    found = [_chance_of(case[0], case[1:], protocol in IDENTITY_CMC, max_rank) for case in cases.numpy()]
    weights, columns = (count.double() / count.sum()).numpy(), zip(*found, strict=True)
    cmc, precision, penalty = (np.tensordot(weights, np.array(column), 1) for column in columns)
    return Chance(torch.from_numpy(cmc[: shape[1]]), float(precision), float(penalty))


@cache
def _gauss_legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(count)


def _chance_of(
    matches: int, others: np.ndarray, by_identity: bool, ranks: int
) -> tuple[np.ndarray, float, float]:
    """CMC, average precision and INP; ``others[s - 1]`` is the number of other identities with s images."""
    sizes = np.arange(1, len(others) + 1)
    images = int(matches + sizes @ others)
    harmonic = (1 / np.arange(1, images + 1)).sum()
    precision = harmonic / images
    if images > 1:
        precision += (matches - 1) * (images - harmonic) / (images * (images - 1))
    # From the last rank down: P(last = r - 1) / P(last = r) = (r - matches) / (r - 1).
    places = np.arange(images, matches - 1, -1)
    last = np.cumprod(np.concatenate([[matches / images], (places[:-1] - matches) / (places[:-1] - 1)]))
    penalty = float((last * matches / places).sum())
    if not by_identity:
        left = np.maximum(1 - matches / (images - np.arange(min(ranks, images))), 0)
        cmc = 1 - np.cumprod(left)
        return np.concatenate([cmc, np.ones(ranks - len(cmc))]), precision, penalty
    # u = 1 - t. The integrand is a polynomial of degree images - 1: exact below 512 images. Beyond, it
    # changes most within 1 / images of 1: intervals grow from there by a factor of four.
    edges = np.array([1.0, 0.0])
    if images >= 512:
        edges = np.append(np.exp(-np.append(0, 16 * 4.0 ** np.arange(math.log(images, 4) + 1)) / images), 0)
    nodes, weights = _gauss_legendre(min(images // 2 + 1, 256))
    lengths = edges[:-1] - edges[1:]
    u = (edges[1:, None] + lengths[:, None] * (nodes + 1) / 2).ravel()
    weights = (lengths[:, None] * weights).ravel()
    before = np.zeros((ranks, len(u)))
    before[0] = 1
    for size in np.repeat(sizes, others):
        stays = u**size
        before[1:] = before[1:] * stays + before[:-1] * (1 - stays)
        before[0] *= stays
    return np.cumsum(before @ (weights / 2 * matches * u ** (matches - 1))), precision, penalty
