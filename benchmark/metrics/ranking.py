"""CMC, mAP and mINP under each data set's own ranking rule."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vbench.errors import BadInput, VbenchError
from vbench.metrics.labels import Labels, TrialLabels, number_tensor
from vbench.metrics.positions import nearer, positions
from vbench.metrics.removal import IDENTITY_CMC, Protocol, removed
from vbench.metrics.result import RankMetrics, summarise

#: Distances held at once where the caller sets no chunk: few enough for a CPU's cache, many enough for a GPU.
_ENTRIES = {"cpu": 1 << 18, "cuda": 1 << 24}


def rank_metrics(
    distance: Tensor | np.ndarray,
    query_ids: Labels,
    gallery_ids: Labels,
    query_cams: Labels | None = None,
    gallery_cams: Labels | None = None,
    protocol: Protocol = "sysu",
    max_rank: int = 20,
    chunk: int | None = None,
) -> RankMetrics:
    """Rank the gallery for every query, nearest first, and measure the ranking.

    ``distance``: Q x G floating point, any device, any scale, smaller is nearer. Ids and cameras: integers of
    length Q and G, of any size and sign. All of them tensors, arrays, or what NumPy takes for one.
    ``chunk``: queries worked on at once (memory grows with ``chunk * G``); it changes nothing else.

    Removal (junk). sysu: queries of camera 3 lose gallery camera 2, and its mirror for visible queries; llcm:
    images of the query's own identity and camera; regdb: nothing. Removed images hold no rank.
    CMC. sysu, llcm: the kept list reduced to identities, each at its best image; regdb: images. Denominator:
    valid queries. mAP and mINP use the full kept list everywhere; denominators in :class:`RankMetrics`.
    Ties. The image that comes first in the gallery ranks first.
    No match. A query whose identity is not among its kept gallery images enters no mean.

    The rules are those of the evaluation code published with AGW (sysu, regdb) and DEEN (llcm).

    Raises :class:`BadInput` for shapes or labels that do not fit, missing cameras and no valid query at all,
    and :class:`VbenchError` for a distance that is not finite.
    """
    distance = number_tensor("distance", distance)
    if distance.ndim != 2 or not distance.is_floating_point():
        got = f"{str(distance.dtype).removeprefix('torch.')} of shape {tuple(distance.shape)}"
        raise BadInput(f"distance must be a floating-point matrix of queries x gallery, got {got}")
    trial = TrialLabels.build(
        query_ids, gallery_ids, query_cams, gallery_cams, protocol, tuple(distance.shape), distance.device
    )
    return rank_blocks(lambda rows: distance[rows], trial, max_rank, chunk)


def rank_blocks(
    block: Callable[[slice], Tensor], trial: TrialLabels, max_rank: int, chunk: int | None
) -> RankMetrics:
    """Like :func:`rank_metrics`, with distances asked for a few queries at a time."""
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
    return summarise(
        *(torch.cat(column).cpu() for column in zip(*parts, strict=True)), min(max_rank, gallery)
    )


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
    # A running sum adds in rank order whatever the padding, so that the block size cannot change a bit.
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
