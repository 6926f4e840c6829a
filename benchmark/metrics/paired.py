"""Statistics of one set of queries measured twice: clean and attacked."""

from __future__ import annotations

import numpy as np

from vbench.errors import BadInput
from vbench.metrics.arrays import plain_array, real_array

#: Resamples worked on at once.
_BATCH = 128


def bootstrap_drop(
    clean: np.ndarray,
    adversarial: np.ndarray,
    generator: np.random.Generator,
    resamples: int = 2000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of the drop ``mean(clean) - mean(adversarial)``, paired over queries.

    ``clean``, ``adversarial``: one value per query (average precision, or Rank-k as 0/1), of shape
    ``queries`` or ``trials x queries``; NaN, at the same places in both, marks a query without a match. The
    mean is that of the report: over valid queries within a trial, then over trials. Queries are resampled
    with replacement, each with its clean and adversarial values of all trials, so the interval covers the
    choice of queries and nothing else (Efron and Tibshirani, 1993, chapter 13).

    Raises :class:`BadInput` for shapes or gaps that differ, no valid query, ``resamples`` below 1 and a
    ``level`` outside (0, 1).
    """
    drop = _paired_drop(clean, adversarial)
    if resamples < 1:
        raise BadInput(f"resamples must be at least 1, got {resamples}")
    if not 0 < level < 1:
        raise BadInput(f"level must lie between 0 and 1, got {level}")
    present = ~np.isnan(drop)
    summed, counted = np.where(present, drop, 0.0).T, present.T.astype(np.float64)
    queries = len(summed)
    means = []
    for start in range(0, resamples, _BATCH):
        size = min(_BATCH, resamples - start)
        drawn = generator.integers(0, queries, (size, queries)) + queries * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * queries).reshape(size, queries).astype(np.float64)
        valid = times @ counted
        per_trial = np.divide(times @ summed, valid, out=np.zeros_like(valid), where=valid > 0)
        means.append(per_trial.sum(1) / (valid > 0).sum(1))
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)


def attack_success_rate(clean_first_rank: np.ndarray, adversarial_first_rank: np.ndarray) -> float:
    """Share of queries with clean first-match rank 1 that no longer have it; NaN if no query has it.

    Both: ``first_match_rank`` of the same queries, any shape, 0 for a query without a match. Such queries
    are in neither numerator nor denominator. Raises :class:`BadInput` if the two do not belong together.
    """
    clean_rank = plain_array("clean ranks", clean_first_rank)
    adversarial_rank = plain_array("adversarial ranks", adversarial_first_rank)
    if clean_rank.shape != adversarial_rank.shape:
        raise BadInput(
            f"clean and adversarial ranks differ in shape: {clean_rank.shape} and {adversarial_rank.shape}"
        )
    if ((clean_rank == 0) != (adversarial_rank == 0)).any():
        raise BadInput("clean and adversarial ranks disagree on which queries have a match")
    hit = clean_rank == 1
    return float((adversarial_rank[hit] > 1).mean()) if hit.any() else float("nan")


def _paired_drop(clean: np.ndarray, adversarial: np.ndarray) -> np.ndarray:
    """Trials x queries, without the queries that are NaN in every trial."""
    before, after = real_array("clean values", clean), real_array("adversarial values", adversarial)
    if before.shape != after.shape or before.ndim not in (1, 2):
        raise BadInput(
            "clean and adversarial values must both be queries or trials x queries, "
            f"got {before.shape} and {after.shape}"
        )
    if (np.isnan(before) != np.isnan(after)).any():
        raise BadInput("clean and adversarial values disagree on which queries have a match")
    drop = np.atleast_2d(before - after)
    drop = drop[:, ~np.isnan(drop).all(0)]
    if drop.size == 0:
        raise BadInput("no query has a value in any trial")
    return drop
