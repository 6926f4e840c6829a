"""Which queries are kept, and what stands at the head of their rankings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vbench.data.base import Sample
from vbench.kept.container import SIDES
from vbench.kept.images import DEPTH, RANDOM, WORST
from vbench.metrics import RankMetrics, ranking_distance
from vbench.metrics.removal import removed
from vbench.types import Side
from vbench.workbench import Workbench


@dataclass(frozen=True)
class Heads:
    """Positions in the gallery list: ``tops`` K x at most 10 of each ranking, ``match`` K, see KeptImages."""

    tops: tuple[np.ndarray, ...]
    match: np.ndarray


def heads(
    bench: Workbench, rankings: Sequence[Mapping[Side, Tensor]], query: np.ndarray, gallery: np.ndarray
) -> Heads:
    """The best of a trial's ``gallery`` for some queries, by the embeddings of each ranking, clean first."""
    orders = [ranked(bench, embeddings, query, gallery) for embeddings in rankings]
    depth = min(DEPTH, *(len(order) for lists in orders for order in lists))
    tops = tuple(gallery[np.stack([order[:depth] for order in lists])] for lists in orders)
    shown, asked = ids(bench, Side.GALLERY)[gallery], ids(bench, Side.QUERY)[query]
    first = [order[np.argmax(shown[order] == pid)] for order, pid in zip(orders[0], asked, strict=True)]
    return Heads(tops, gallery[np.array(first)])


def choose(before: RankMetrics, after: RankMetrics, seed: int) -> tuple[np.ndarray, list[str]]:
    """Rows of a trial's queries to keep, and of each whether it is among the "worst" or "random".

    First those that lose most average precision, equal ones in the order of the list; then some drawn from
    the others with a match, by ``seed``.
    """
    loss = (before.average_precision - after.average_precision).numpy()
    valid = np.flatnonzero(before.valid.numpy() & after.valid.numpy())
    order = valid[np.argsort(-loss[valid], kind="stable")]
    worst, others = order[:WORST], np.sort(order[WORST:])
    drawn = np.random.default_rng(seed).permutation(others)[:RANDOM]
    return np.concatenate([worst, drawn]), ["worst"] * len(worst) + ["random"] * len(drawn)


def ranked(
    bench: Workbench, embeddings: Mapping[Side, Tensor], query: np.ndarray, gallery: np.ndarray
) -> list[np.ndarray]:
    """For each query image the columns of ``gallery``, best first, without those that the protocol removes.

    Ties stand in the order of the gallery.
    """
    parts = dict(zip(SIDES, (query, gallery), strict=True))
    found = {side: embeddings[side][torch.as_tensor(part)] for side, part in parts.items()}
    distance = ranking_distance(found[Side.QUERY], found[Side.GALLERY], bench.victim.similarity).cpu()
    labels = [torch.from_numpy(of(bench, side)[part]) for of in (ids, cams) for side, part in parts.items()]
    junk = removed(bench.dataset.metric, *labels)
    if junk is None:
        junk = torch.zeros_like(distance, dtype=torch.bool)
    order = distance.masked_fill(junk, torch.inf).sort(dim=1, stable=True).indices.numpy()
    return [row[:kept] for row, kept in zip(order, (~junk).sum(1).tolist(), strict=True)]


def ids(bench: Workbench, side: Side) -> np.ndarray:
    """Identity of every image of a side."""
    return np.array([sample.pid for sample in _samples(bench, side)])


def cams(bench: Workbench, side: Side) -> np.ndarray:
    """Camera of every image of a side."""
    return np.array([sample.cam for sample in _samples(bench, side)])


def _samples(bench: Workbench, side: Side) -> Sequence[Sample]:
    return bench.dataset.query if side is Side.QUERY else bench.dataset.gallery
