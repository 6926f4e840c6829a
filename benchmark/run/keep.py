"""Collect the embeddings and images of a run that ``--keep`` stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from vbench.core.files import check_inside
from vbench.core.types import Modality, Side
from vbench.data.base import Sample
from vbench.metrics import RankMetrics, ranking_distance
from vbench.metrics.labels import removed
from vbench.records.files import (
    DEPTH,
    EMBEDDINGS_FORMAT,
    IMAGES_FORMAT,
    RANDOM,
    SIDES,
    WORST,
    EmbeddingsMeta,
    ImagesMeta,
    KeptEmbeddings,
    KeptImages,
    kept_file,
)
from vbench.records.record import Record
from vbench.run.bench import Bench
from vbench.run.worst_case import Outcome


@dataclass(frozen=True)
class BestMatches:
    """Positions in the gallery list: ``tops``, K x at most 10 per ranking; ``match``, K; see KeptImages."""

    tops: tuple[np.ndarray, ...]
    match: np.ndarray


def best_matches(
    bench: Bench, rankings: Sequence[Mapping[Side, Tensor]], query: np.ndarray, gallery: np.ndarray
) -> BestMatches:
    """The nearest of a trial's ``gallery`` for some queries, for each set of embeddings, clean first."""
    orders = [ranked(bench, embeddings, query, gallery) for embeddings in rankings]
    depth = min(DEPTH, *(len(order) for lists in orders for order in lists))
    tops = tuple(gallery[np.stack([order[:depth] for order in lists])] for lists in orders)
    gallery_ids, query_ids = ids(bench, Side.GALLERY)[gallery], ids(bench, Side.QUERY)[query]
    first = [
        order[np.argmax(gallery_ids[order] == pid)] for order, pid in zip(orders[0], query_ids, strict=True)
    ]
    return BestMatches(tops, gallery[np.array(first)])


def choose(before: RankMetrics, after: RankMetrics, seed: int) -> tuple[np.ndarray, list[str]]:
    """Rows of a trial's queries to keep, and for each "worst" or "random".

    First those that lose most average precision, ties in list order; then a random sample, by ``seed``, of
    the others with a match.
    """
    loss = (before.average_precision - after.average_precision).numpy()
    valid = np.flatnonzero(before.valid.numpy() & after.valid.numpy())
    order = valid[np.argsort(-loss[valid], kind="stable")]
    worst, others = order[:WORST], np.sort(order[WORST:])
    sampled = np.random.default_rng(seed).permutation(others)[:RANDOM]
    return np.concatenate([worst, sampled]), ["worst"] * len(worst) + ["random"] * len(sampled)


def ranked(
    bench: Bench, embeddings: Mapping[Side, Tensor], query: np.ndarray, gallery: np.ndarray
) -> list[np.ndarray]:
    """For each query image the columns of ``gallery``, best first, without those that the protocol removes.

    Ties are in gallery order.
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


def ids(bench: Bench, side: Side) -> np.ndarray:
    """Identity of every image of a side."""
    return np.array([sample.pid for sample in _samples(bench, side)])


def cams(bench: Bench, side: Side) -> np.ndarray:
    """Camera of every image of a side."""
    return np.array([sample.cam for sample in _samples(bench, side)])


def _samples(bench: Bench, side: Side) -> Sequence[Sample]:
    return bench.dataset.query if side is Side.QUERY else bench.dataset.gallery


class _About(TypedDict):
    """Header fields of kept files that describe the run."""

    record: str
    created: str
    digest: str
    modality: dict[Side, Modality]
    attacked: list[Side]


@dataclass
class Keeper:
    """Collects ``wanted`` ("embeddings", "images") from a run, and writes them next to the record."""

    wanted: frozenset[str] = frozenset()
    embeddings: KeptEmbeddings | None = None
    images: KeptImages | None = None

    def take(self, bench: Bench, outcome: Outcome, results: Sequence[RankMetrics], record: Record) -> None:
        """Copy from a finished run. ``outcome`` must hold the adversarial images if images are wanted."""
        about: _About = {
            "record": record.id,
            "created": record.created,
            "digest": record.digest,
            "modality": {side: bench.modality(side) for side in SIDES},
            "attacked": [side for side in SIDES if record.config["threat"]["side"] in (side.value, "both")],
        }
        if "embeddings" in self.wanted:
            self.embeddings = _embeddings(bench, outcome, about)
        if "images" in self.wanted:
            self.images = _images(bench, outcome, results[0], record, about)

    def write(self, runs: Path, record: Record) -> None:
        """Write what was taken under ``runs``."""
        for what in sorted(self.wanted - {"weights"}):
            found = getattr(self, what)
            if found is not None:
                found.write(check_inside(runs, kept_file(runs, record.id, what)))


def _embeddings(bench: Bench, outcome: Outcome, about: _About) -> KeptEmbeddings:
    dataset = bench.dataset
    trials = {trial.name: (np.asarray(trial.query), np.asarray(trial.gallery)) for trial in dataset.trials}
    similarity = bench.victim.similarity
    return KeptEmbeddings(
        EmbeddingsMeta(
            format=EMBEDDINGS_FORMAT, rule=dataset.metric, similarity=similarity, trials=list(trials), **about
        ),
        {side: _numpy(bench.clean[side].embeddings) for side in SIDES},
        {side: _numpy(outcome.embeddings[side]) for side in SIDES},
        {side: ids(bench, side) for side in SIDES},
        {side: cams(bench, side) for side in SIDES},
        trials,
    )


def _images(bench: Bench, outcome: Outcome, after: RankMetrics, record: Record, about: _About) -> KeptImages:
    trial, before = bench.dataset.trials[0], bench.clean_trials[0]
    rows, chosen = choose(before, after, record.config["seed"])
    query, gallery = np.asarray(trial.query)[rows], np.asarray(trial.gallery)
    clean = {side: found.embeddings for side, found in bench.clean.items()}
    found = best_matches(bench, (clean, outcome.embeddings), query, gallery)
    lists = (*found.tops, found.match)
    used = {Side.QUERY: query, Side.GALLERY: np.unique(np.concatenate([*map(np.ravel, lists)]))}
    # The union is sorted, so searchsorted finds a position's row in it.
    first, last, match = (np.searchsorted(used[Side.GALLERY], positions) for positions in lists)
    pixels = {side: np.asarray(bench.pixels[side][used[side]]) for side in SIDES}
    pair = (before, after)
    return KeptImages(
        ImagesMeta(
            format=IMAGES_FORMAT,
            rule=bench.dataset.metric,
            trial=trial.name,
            chosen=chosen,
            rounded=not record.config["threat"]["quantize"],
            **about,
        ),
        pixels,
        pixels | {side: images[used[side]] for side, images in outcome.images.items()},
        {side: ids(bench, side)[used[side]] for side in SIDES},
        {side: cams(bench, side)[used[side]] for side in SIDES},
        used,
        first,
        last,
        match,
        np.stack([_numpy(one.first_match_rank[rows]) for one in pair], axis=1),
        np.stack([_numpy(one.average_precision[rows]) for one in pair], axis=1),
    )


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
