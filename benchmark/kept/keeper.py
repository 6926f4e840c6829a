"""Collecting, while a run has them at hand, what it was asked to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from vbench.files import check_inside
from vbench.kept.container import SIDES
from vbench.kept.embeddings import FORMAT as EMBEDDINGS
from vbench.kept.embeddings import EmbeddingsMeta, KeptEmbeddings
from vbench.kept.folder import kept_file
from vbench.kept.images import FORMAT as IMAGES
from vbench.kept.images import ImagesMeta, KeptImages
from vbench.kept.rankings import cams, choose, heads, ids
from vbench.metrics import RankMetrics
from vbench.record import Record
from vbench.types import Side
from vbench.workbench import Workbench
from vbench.worst_case import Outcome


@dataclass
class Keeper:
    """Takes what ``wanted`` names ("embeddings", "images") out of a run, and writes it beside the record."""

    wanted: frozenset[str] = frozenset()
    embeddings: KeptEmbeddings | None = None
    images: KeptImages | None = None

    def take(
        self, bench: Workbench, outcome: Outcome, results: Sequence[RankMetrics], record: Record
    ) -> None:
        """Copy from a finished run. ``outcome`` holds the shown images where images are wanted."""
        about = {
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
        for what in sorted(self.wanted):
            found = getattr(self, what)
            if found is not None:
                found.write(check_inside(runs, kept_file(runs, record.id, what)))


def _embeddings(bench: Workbench, outcome: Outcome, about: Mapping[str, object]) -> KeptEmbeddings:
    dataset = bench.dataset
    trials = {trial.name: (np.asarray(trial.query), np.asarray(trial.gallery)) for trial in dataset.trials}
    similarity = bench.victim.similarity
    return KeptEmbeddings(
        EmbeddingsMeta(
            format=EMBEDDINGS, rule=dataset.metric, similarity=similarity, trials=list(trials), **about
        ),
        {side: _numpy(bench.clean[side].embeddings) for side in SIDES},
        {side: _numpy(outcome.embeddings[side]) for side in SIDES},
        {side: ids(bench, side) for side in SIDES},
        {side: cams(bench, side) for side in SIDES},
        trials,
    )


def _images(
    bench: Workbench, outcome: Outcome, after: RankMetrics, record: Record, about: Mapping[str, object]
) -> KeptImages:
    trial, before = bench.dataset.trials[0], bench.clean_trials[0]
    rows, chosen = choose(before, after, record.config["seed"])
    query, gallery = np.asarray(trial.query)[rows], np.asarray(trial.gallery)
    clean = {side: found.embeddings for side, found in bench.clean.items()}
    found = heads(bench, (clean, outcome.embeddings), query, gallery)
    lists = (*found.tops, found.match)
    used = {Side.QUERY: query, Side.GALLERY: np.unique(np.concatenate([*map(np.ravel, lists)]))}
    # The union is sorted, so that a position's row in it can be searched for.
    places = [np.searchsorted(used[Side.GALLERY], positions) for positions in lists]
    pixels = {side: np.asarray(bench.pixels[side][used[side]]) for side in SIDES}
    pair = (before, after)
    return KeptImages(
        ImagesMeta(
            format=IMAGES,
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
        *places,
        np.stack([_numpy(one.first_match_rank[rows]) for one in pair], axis=1),
        np.stack([_numpy(one.average_precision[rows]) for one in pair], axis=1),
    )


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
