"""A record's fields from rankings; the check that clean Rank-1 is above chance level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
import torch

from vbench.core.errors import VbenchError
from vbench.metrics import RankMetrics, attack_success_rate, bootstrap_drop
from vbench.records.record import CompressedArray, TrialMetrics
from vbench.run.bench import Bench

_LARGEST_TIED_SHARE = 0.01


def mean_rank1(results: Sequence[RankMetrics]) -> float:
    """Rank-1 in [0, 1], mean over trials."""
    return sum(found.rank(1) for found in results) / len(results)


def trials_rank1(trials: Sequence[TrialMetrics]) -> float:
    """The same of the trials of a record."""
    return fmean(trial.r1 for trial in trials)


def trial_metrics(bench: Bench, results: Sequence[RankMetrics]) -> list[TrialMetrics]:
    """One entry per trial of the protocol."""
    return [
        TrialMetrics(
            trial=trial.name,
            **{f"r{k}": found.rank(k) for k in (1, 5, 10, 20)},
            map=found.mAP,
            minp=found.mINP,
            queries=int(found.valid.sum()),
            skipped=int((~found.valid).sum()),
            tied_share=found.tied_share,
        )
        for trial, found in zip(bench.dataset.trials, results, strict=True)
    ]


def success_rate(clean: Sequence[RankMetrics], adversarial: Sequence[RankMetrics]) -> float | None:
    """Share of query-trial pairs with a correct clean Rank-1 that lose it; None if there are none."""
    rate = attack_success_rate(_ranks(clean), _ranks(adversarial))
    return None if math.isnan(rate) else rate


def paired(clean: Sequence[RankMetrics], adversarial: Sequence[RankMetrics], seed: int) -> dict[str, Any]:
    """The record's fields that pair clean and adversarial queries: success rate, intervals, per query."""
    ranks = [_ranks(group) for group in (clean, adversarial)]
    precisions = [
        torch.stack([found.average_precision for found in group]).numpy() for group in (clean, adversarial)
    ]
    clean_hits, adversarial_hits = (np.where(rank == 0, np.nan, rank == 1) for rank in ranks)
    generator = np.random.default_rng(seed)
    return {
        "asr": success_rate(clean, adversarial),
        "drop_interval": {
            "r1": bootstrap_drop(clean_hits, adversarial_hits, generator),
            "map": bootstrap_drop(precisions[0], precisions[1], generator),
        },
        "per_query": {
            "clean_rank": CompressedArray.pack(ranks[0]),
            "adversarial_rank": CompressedArray.pack(ranks[1]),
            "clean_ap": CompressedArray.pack(precisions[0]),
            "adversarial_ap": CompressedArray.pack(precisions[1]),
        },
    }


def tie_warnings(results: Sequence[RankMetrics]) -> list[str]:
    """One line if more than 1 % of results depend on ties of distances, and so on gallery order."""
    share = max(found.tied_share for found in results)
    if share <= _LARGEST_TIED_SHARE:
        return []
    return [f"{share:.1%} of queries hang on a tie of distances: their result is gallery order, not ranking"]


def _ranks(group: Sequence[RankMetrics]) -> np.ndarray:
    return torch.stack([found.first_match_rank for found in group]).numpy()


def clean_gate(bench: Bench, clean: Sequence[TrialMetrics] | None = None) -> None:
    """Raise :class:`VbenchError` if the clean Rank-1 is at chance level, as with the wrong weights.

    ``clean``: the clean results of a record; None to compute them. The bound is three binomial standard
    deviations above a random ranking.
    """
    clean = trial_metrics(bench, bench.clean_trials) if clean is None else clean
    chance = bench.chance["r1"]
    queries = sum(trial.queries for trial in clean) / len(clean)
    bound = chance + 3 * math.sqrt(chance * (1 - chance) / queries)
    rank1 = trials_rank1(clean)
    if rank1 <= bound:
        raise VbenchError(
            f"{bench.victim.name}: clean Rank-1 is {rank1:.1%} on {bench.dataset.protocol}, chance level is "
            f"{chance:.1%}; are these the right weights? (--ignore-gates runs anyway)"
        )
