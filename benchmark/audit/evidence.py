"""The measurements that checks use; each attack is run once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vbench.attacks.base import Context
from vbench.attacks.build import build_attack
from vbench.attacks.distances import squared_distance
from vbench.audit.record import Unmeasured
from vbench.core.plugins import reason
from vbench.core.threat import ThreatModel, parse_budget
from vbench.core.types import Side
from vbench.metrics import RankMetrics
from vbench.metrics.change import PerturbationSize
from vbench.metrics.statistics import Comparison, chance_bound, compare
from vbench.run.bench import Bench
from vbench.run.craft import Plan, craft_side, image_seeds
from vbench.run.failures import LOSES_A_RUN
from vbench.victims.base import Victim
from vbench.victims.embed import BATCH, to_images


@dataclass(frozen=True)
class Outcome:
    """One attack's result: ``hits`` trials x queries (1: correct first match, NaN: no match in the gallery);
    ``embeddings`` N x D and ``shown`` N x H x W x 3 uint8 of the adversarial queries."""

    hits: np.ndarray
    embeddings: Tensor
    shown: np.ndarray

    @property
    def rank1(self) -> float:
        """Mean over trials of Rank-1, in [0, 1]."""
        return rank1(self.hits)


class Evidence:
    """A bench, a budget on its queries, and the attacks measured so far.

    ``decisions`` counts the one-sided significance decisions of the audit.
    """

    def __init__(self, bench: Bench, threat: ThreatModel, seed: int) -> None:
        self.bench = bench
        self.threat = threat
        self.seed = seed
        self.decisions = 0
        self._known: dict[tuple[str, Fraction, int], Outcome | Unmeasured] = {}

    @property
    def victim(self) -> Victim:
        """The victim under audit."""
        return self.bench.victim

    @property
    def ids(self) -> np.ndarray:
        """Identity of every query."""
        return self.bench.ids(Side.QUERY).numpy()

    @cached_property
    def clean(self) -> np.ndarray:
        """Hits of the clean queries, as in :class:`Outcome`."""
        return _hits(self.bench, self.bench.clean_trials)

    def attacked(self, spec: str, eps: str | None = None, batch: int = BATCH) -> Outcome:
        """The outcome of an attack on the queries, measured once.

        Raises :class:`Unmeasured` if it cannot run on this victim.
        """
        threat = self.threat
        if eps is not None:
            threat = replace(threat, eps=parse_budget(eps, threat.norm))
        key = (spec, threat.eps, batch)
        if key not in self._known:
            try:
                self._known[key] = self._measure(spec, threat, batch)
            except torch.cuda.OutOfMemoryError:
                raise
            except LOSES_A_RUN as error:
                self._known[key] = Unmeasured(f"{spec} stops with: {reason(error)}")
        found = self._known[key]
        if isinstance(found, Unmeasured):
            raise found
        return found

    def outcomes(self) -> Iterator[tuple[str, ThreatModel, Outcome]]:
        """Every attack measured so far: its text, its threat model, its outcome."""
        for (spec, eps, _), found in self._known.items():
            if isinstance(found, Outcome):
                yield spec, replace(self.threat, eps=eps), found

    def compare(self, first: np.ndarray, second: np.ndarray, decisions: int = 1) -> Comparison:
        """Compare two measurements of the queries, for ``decisions`` one-sided significance decisions."""
        self.decisions += decisions
        return compare(first, second, self.ids, self.seed)

    def chance_bound(self) -> float:
        """Highest Rank-1 on these queries that a random ranking can reach; one decision."""
        self.decisions += 1
        matched = int((~np.isnan(self.clean)).any(axis=0).sum())
        return chance_bound(self.bench.chance["r1"], matched)

    def moved(self, outcome: Outcome) -> np.ndarray:
        """Squared distance of each query to its clean embedding, which attacks increase; N values."""
        clean = self.bench.clean[Side.QUERY].embeddings
        return squared_distance(outcome.embeddings, clean, self.victim.similarity).double().cpu().numpy()

    def batches(self) -> list[tuple[Tensor, Context]]:
        """The queries (N x 3 x H x W in [0, 1]) in batches, each with the context for a per-image attack."""
        pixels, clean = self.bench.pixels[Side.QUERY], self.bench.clean[Side.QUERY].embeddings
        found = []
        for start in range(0, len(pixels), BATCH):
            rows = slice(start, min(start + BATCH, len(pixels)))
            images = to_images(pixels[rows], self.victim)
            seeds = image_seeds(self.seed, Side.QUERY, rows)
            found.append((images, Context(self.threat, seeds, clean[rows].to(images))))
        return found

    def _measure(self, spec: str, threat: ThreatModel, batch: int) -> Outcome:
        attack = build_attack(spec)
        attack.check(self.victim, threat)
        plan = Plan(attack, threat, self.seed)
        found = craft_side(self.bench, Side.QUERY, plan, PerturbationSize(), None, True, batch, keep=True)
        embeddings: Mapping[Side, Tensor] = {
            Side.QUERY: found.embeddings,
            Side.GALLERY: self.bench.clean[Side.GALLERY].embeddings,
        }
        assert found.images is not None
        return Outcome(_hits(self.bench, self.bench.rank(embeddings)), found.embeddings, found.images)


def rank1(hits: np.ndarray) -> float:
    """Mean over trials of the share of valid queries with a correct first match."""
    return float(np.nanmean(hits, axis=1).mean())


def _hits(bench: Bench, results: list[RankMetrics]) -> np.ndarray:
    """Trials x all queries, in the order of the dataset's query list; NaN for queries not in a trial."""
    hits = np.full((len(results), len(bench.dataset.query)), np.nan)
    for row, (trial, found) in enumerate(zip(bench.dataset.trials, results, strict=True)):
        rank = found.first_match_rank.numpy()
        hits[row, trial.query] = np.where(rank == 0, np.nan, rank == 1)
    return hits
