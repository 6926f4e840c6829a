"""For each query, the worst of the adversarial images of a battery's members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from vbench.attacks.base import AnyEdits, Attack
from vbench.attacks.build import label
from vbench.attacks.perturbation import Perturbation
from vbench.core.types import Side
from vbench.metrics import RankMetrics
from vbench.metrics.change import PerturbationSize
from vbench.records.record import CompressedArray, MemberRecord
from vbench.run.bench import Bench
from vbench.run.craft import Attacked
from vbench.run.summary import success_rate, trial_metrics


@dataclass
class Outcome:
    """Result of an attack before ranking: embeddings of both sides, of the images the victim was shown.

    ``cost``: that of learning, to which :meth:`add` adds that of crafting. ``images``: uint8 N x H x W x 3 of
    attacked sides, if the run keeps images. ``tested``: the bench of the victim under test, if an attacker
    trained it.
    """

    embeddings: dict[Side, Tensor]
    size: PerturbationSize
    cost: dict[str, float]
    perturbation: Perturbation | None = None
    edits: AnyEdits = field(default_factory=dict)
    images: dict[Side, np.ndarray] = field(default_factory=dict)
    tested: Bench | None = None
    _attacked: int = 0
    _queries: int = 0

    def add(self, side: Side, found: Attacked) -> None:
        """Take the adversarial images of one side."""
        self.embeddings[side] = found.embeddings
        if found.images is not None:
            self.images[side] = found.images
        self._attacked += len(found.embeddings)
        self._queries += found.queries
        cost = self.cost
        cost["attack_evaluations"] = cost.get("attack_evaluations", 0) + found.evaluations
        cost["attack_seconds"] = cost.get("attack_seconds", 0) + found.seconds
        cost["peak_memory"] = max(cost.get("peak_memory", 0), found.peak_memory)
        cost["evaluations_per_image"] = cost["attack_evaluations"] / self._attacked
        cost["images_per_second"] = self._attacked / max(cost["attack_seconds"], 1e-9)
        if self._queries:
            cost["queries_per_image"] = self._queries / self._attacked


@dataclass
class _Measured:
    attack: Attack
    cost: dict[str, float]
    results: list[RankMetrics]


class WorstCase:
    """The worst images as one outcome, with the summed cost of all members, and a record per member.

    For each query the image that contributes least to the mAP; on ties, the earlier member's. The outcomes
    are of query-side attacks, and are added one by one, to bound memory.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._measured: list[_Measured] = []
        count = len(bench.dataset.query)
        self._lowest = torch.full((count,), torch.inf, dtype=torch.float64)
        #: For each query image the position of the member whose image is the worst.
        self._winner = torch.zeros(count, dtype=torch.int64)
        self._worst = Outcome({}, PerturbationSize(), {})

    def add(self, attack: Attack, outcome: Outcome) -> None:
        """Keep the images of a member that are worse than those of all before."""
        results = self._bench.rank(outcome.embeddings)
        kept = self._worst
        if not self._measured:
            rows = PerturbationSize(outcome.size.rows)
            kept = self._worst = Outcome(dict(outcome.embeddings), rows, {}, images=outcome.images)
        share = map_shares(self._bench, results)
        worse = share < self._lowest
        there = worse.to(kept.embeddings[Side.QUERY].device)[:, None]
        kept.embeddings[Side.QUERY] = torch.where(
            there, outcome.embeddings[Side.QUERY], kept.embeddings[Side.QUERY]
        )
        kept.size.rows = torch.where(worse[:, None], outcome.size.rows, kept.size.rows)
        for side, shown in kept.images.items():
            shown[worse.numpy()] = outcome.images[side][worse.numpy()]
        self._lowest = torch.where(worse, share, self._lowest)
        self._winner = torch.where(worse, len(self._measured), self._winner)
        self._measured.append(_Measured(attack, outcome.cost, results))

    def outcome(self) -> Outcome:
        """The worst images of all members."""
        self._worst.cost = _total([found.cost for found in self._measured], len(self._winner))
        return self._worst

    def per_trial(self) -> CompressedArray:
        """The member whose image was used, for every query of every trial, trials x queries."""
        return CompressedArray.pack(
            torch.stack([self._winner[trial.query] for trial in self._bench.dataset.trials]).numpy()
        )

    def members(self) -> list[MemberRecord]:
        """A record of each member."""
        return _members(self._bench, self._measured, self._bench.rank(self._worst.embeddings), self._winner)


def map_shares(bench: Bench, results: Sequence[RankMetrics]) -> Tensor:
    """Contribution of each query image to the mAP, summed over trials, float64; NaN if it has no match."""
    shares = torch.zeros(len(bench.dataset.query), dtype=torch.float64)
    matched = torch.zeros(len(shares), dtype=torch.bool)
    for trial, found in zip(bench.dataset.trials, results, strict=True):
        query = torch.as_tensor(trial.query)[found.valid]
        shares.index_add_(0, query, found.average_precision[found.valid] / found.valid.sum())
        matched[query] = True
    return shares.masked_fill(~matched, torch.nan)


def _members(
    bench: Bench,
    measured: Sequence[_Measured],
    final: Sequence[RankMetrics],
    winner: Tensor,
) -> list[MemberRecord]:
    matched = ~map_shares(bench, final).isnan()
    won = torch.bincount(winner[matched], minlength=len(measured))
    lost = torch.zeros_like(won)
    for trial, before, after in zip(bench.dataset.trials, bench.clean_trials, final, strict=True):
        gone = (before.first_match_rank == 1) & (after.first_match_rank > 1)
        lost += torch.bincount(winner[trial.query][gone], minlength=len(measured))
    return [
        MemberRecord(
            label=label(found.attack),
            universal=found.attack.universal,
            knowledge=sorted(found.attack.knowledge),
            trials=trial_metrics(bench, found.results),
            asr=success_rate(bench.clean_trials, found.results),
            won=int(won[position]) / int(won.sum()),
            won_lost=int(lost[position]) / int(lost.sum()) if lost.any() else None,
            cost=found.cost,
        )
        for position, found in enumerate(measured)
    ]


def _total(costs: Sequence[dict[str, float]], images: int) -> dict[str, float]:
    total: dict[str, float] = {}
    for name in dict.fromkeys(name for cost in costs for name in cost):
        values = [cost[name] for cost in costs if name in cost]
        total[name] = max(values) if name == "peak_memory" else sum(values)
    total["images_per_second"] = images / max(total["attack_seconds"], 1e-9)
    return total
