"""For each query, the worst of the adversarial images of a battery's members."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from vbench.run.summary import success_rate, trial_metrics


@dataclass
class Outcome:
    """Result of an attack before ranking: embeddings of both sides, of the images the victim was shown.

    ``images``: uint8 N x H x W x 3 of attacked sides, if the run keeps images. ``tested``: the bench of the
    victim under test, if an attacker trained it.
    """

    embeddings: dict[Side, Tensor]
    size: PerturbationSize
    cost: dict[str, float]
    perturbation: Perturbation | None = None
    edits: AnyEdits = field(default_factory=dict)
    images: dict[Side, np.ndarray] = field(default_factory=dict)
    tested: Bench | None = None


@dataclass
class WorstCase:
    """The worst images as one outcome, with the summed cost of all members, and a record per member.

    ``winner``: for each query image the position of the member whose image is the worst.
    """

    outcome: Outcome
    members: list[MemberRecord]
    winner: Tensor

    def per_trial(self, bench: Bench) -> CompressedArray:
        """The winner of every query of every trial, trials x queries."""
        return CompressedArray.pack(
            torch.stack([self.winner[trial.query] for trial in bench.dataset.trials]).numpy()
        )


@dataclass
class _Measured:
    attack: Attack
    cost: dict[str, float]
    results: list[RankMetrics]


def worst_case(bench: Bench, outcomes: Iterable[tuple[Attack, Outcome]]) -> WorstCase:
    """Choose for each query the image that contributes least to the mAP; on ties, the earlier member's.

    The outcomes are of query-side attacks. They are consumed one by one, to bound memory.
    """
    measured: list[_Measured] = []
    kept: dict[Side, Tensor] = {}
    images: dict[Side, np.ndarray] = {}
    lowest = torch.full((len(bench.dataset.query),), torch.inf, dtype=torch.float64)
    rows, winner = torch.zeros(0), torch.zeros(len(lowest), dtype=torch.int64)
    for position, (attack, outcome) in enumerate(outcomes):
        results = bench.rank(outcome.embeddings)
        measured.append(_Measured(attack, outcome.cost, results))
        if not kept:
            kept, images, rows = dict(outcome.embeddings), outcome.images, outcome.size.rows
        share = map_shares(bench, results)
        worse = share < lowest
        there = worse.to(kept[Side.QUERY].device)[:, None]
        kept[Side.QUERY] = torch.where(there, outcome.embeddings[Side.QUERY], kept[Side.QUERY])
        rows = torch.where(worse[:, None], outcome.size.rows, rows)
        for side, shown in images.items():
            shown[worse.numpy()] = outcome.images[side][worse.numpy()]
        lowest, winner = torch.where(worse, share, lowest), torch.where(worse, position, winner)
    cost = _total([found.cost for found in measured], len(winner))
    members = _members(bench, measured, bench.rank(kept), winner)
    outcome = Outcome(kept, PerturbationSize(rows), cost, images=images)
    return WorstCase(outcome, members, winner)


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
