"""Paired bootstrap, sign-flip test, chance bounds, prediction bounds."""

from __future__ import annotations

import bisect
import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from scipy import special

from vbench.core.errors import BadInput
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


#: Sign patterns worked on at once.
_FLIPS_AT_ONCE = 512


def flip_noise(
    differences: np.ndarray,
    groups: np.ndarray,
    tail: float,
    generator: np.random.Generator,
    flips: int = 20_000,
) -> float:
    """What the mean of ``differences`` exceeds with probability ``tail`` at most if their signs are chance.

    ``differences``: N finite values, one a query, of the same query measured twice. ``groups``: N labels;
    the values of one group keep or change their sign together, since the images of one person are not
    independent. A mean above the result is larger, one below its negative smaller, each at the one-sided
    level ``tail``. With groups of one and 0/1 outcomes this is McNemar's exact test (Fisher's randomisation
    test of pairs: Good, Permutation, Parametric and Bootstrap Tests, 2005, section 3.2). All signs are
    enumerated where they are at most ``flips``, else that many are drawn.

    Raises :class:`BadInput` for shapes that differ, nothing to compare and a ``tail`` outside (0, 1).
    """
    if not 0 < tail < 1:
        raise BadInput(f"tail must lie between 0 and 1, got {tail}")
    totals, count = _totals(differences, groups)
    null = _signs(len(totals), flips, generator) @ totals / count
    # Sums of the same values in another order differ in their last digits; equal ones are chance.
    return float(np.quantile(null, 1 - tail, method="higher")) + 1e-12


def flip_pvalue(
    differences: np.ndarray, groups: np.ndarray, generator: np.random.Generator, flips: int = 10_000
) -> float:
    """Two-sided p of the mean of ``differences`` being 0, by the test of :func:`flip_noise`.

    The share of sign patterns whose mean lies at least as far from 0 as the measured one, which counts
    itself: exact where all are enumerated, else never below 1 / ``flips`` (Phipson and Smyth, Permutation
    P-values Should Never Be Zero, 2010). 1 where no group differs. Raises as :func:`flip_noise` does.
    """
    totals, _ = _totals(differences, groups)
    if not len(totals):
        return 1.0
    # Sums of the same values in another order differ in their last digits; equal ones count as reached.
    reached = abs(totals.sum()) - 1e-9 * np.abs(totals).sum()
    if 2 ** len(totals) <= flips:
        return float((np.abs(_signs(len(totals), flips, generator) @ totals) >= reached).mean())
    count = 1
    for start in range(1, flips, _FLIPS_AT_ONCE):
        count += int((np.abs(_drawn(totals, min(_FLIPS_AT_ONCE, flips - start), generator)) >= reached).sum())
    return count / flips


def _drawn(totals: np.ndarray, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Sums of ``totals`` under ``rows`` random sign patterns, a random bit a sign."""
    width = -(-len(totals) // 8)
    random = np.frombuffer(generator.bytes(rows * width), np.uint8).reshape(rows, width)
    kept = np.unpackbits(random, axis=1, count=len(totals))
    return 2 * (kept @ totals) - totals.sum()


def _totals(differences: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, int]:
    """Sums of the groups that differ at all, and how many values there were."""
    differences = real_array("differences", differences)
    if differences.ndim != 1 or differences.shape != np.shape(groups) or not len(differences):
        raise BadInput(
            f"differences and groups must be N values, got {differences.shape}, {np.shape(groups)}"
        )
    _, group = np.unique(groups, return_inverse=True)
    totals = np.bincount(group, weights=differences)
    return totals[totals != 0], len(differences)


def _signs(count: int, flips: int, generator: np.random.Generator) -> np.ndarray:
    """Rows of +-1: every one there is, or ``flips`` of them, the measured ones (no sign flipped) included."""
    if 2**count <= flips:
        bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    else:
        bits = generator.integers(0, 2, (flips, count), dtype=np.int8)
        bits[0] = 1
    return bits * 2.0 - 1.0


#: Chance that an honest evaluation is contradicted anywhere in one audit, at most.
FAMILY = 0.01

#: One-sided decisions in one audit; Bonferroni's correction shares FAMILY among them.
DECISIONS = 21

#: One-sided level of each.
TAIL = FAMILY / DECISIONS

#: With fewer identities not even a change of all of them is beyond chance at that level.
LEAST_IDENTITIES = math.floor(-math.log2(TAIL)) + 1


@dataclass(frozen=True)
class Comparison:
    """Two measurements of the same queries: ``difference`` is second less first, means in [0, 1].

    ``noise`` is what chance reaches at the level ``TAIL``.
    """

    difference: float
    noise: float

    @property
    def higher(self) -> bool:
        """The second is higher beyond noise."""
        return self.difference > self.noise

    @property
    def lower(self) -> bool:
        """The second is lower beyond noise."""
        return self.difference < -self.noise

    def __str__(self) -> str:
        return f"{100 * self.difference:+.1f}, noise {100 * self.noise:.1f}"


def compare(first: np.ndarray, second: np.ndarray, ids: np.ndarray, seed: int) -> Comparison:
    """Compare two N (queries) or trials x N arrays of the same queries; NaN marks a query without a match.

    Trials are the same queries again: a query's values are averaged over them first. Queries of one identity
    are not independent, so it is identities that chance is about.
    """
    change = per_query(second) - per_query(first)
    known = ~np.isnan(change)
    change, ids = change[known], ids[known]
    noise = flip_noise(change, ids, TAIL, np.random.default_rng(seed))
    return Comparison(float(change.mean()), noise)


def per_query(values: np.ndarray) -> np.ndarray:
    """Mean over trials; NaN where a query has no value in any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(np.atleast_2d(values), axis=0)


def chance_bound(chance: float, queries: int) -> float:
    """Highest Rank-1 that a random ranking reaches, at the level ``TAIL``: a binomial over queries.

    Several trials repeat the same queries, so they do not count as more of them.
    """
    hits = np.arange(queries + 1)
    return int(np.searchsorted(special.bdtr(hits, queries, chance), 1 - TAIL)) / queries


def half_width(queries: int) -> float:
    """Largest half-width of a 95 % interval of a share over so many queries: at a share of one half."""
    return float(1.96 * np.sqrt(0.25 / queries))


#: Relative error that writing mean and deviation as decimal text may bring.
_TEXT = 1e-9

#: Chance at which seeds that scatter more than their queries explain are taken to have more in common.
_MORE_THAN_QUERIES = 0.05


class Spread(BaseModel):
    """``values``: one a seed, in the order of the seeds; ``mean`` and ``n`` of them.

    ``sd`` is the standard deviation over seeds, with ``dof`` degrees of freedom: that of the values (n - 1),
    or that of their queries, pooled. ``resolution`` is the smallest difference that says anything: what one
    query can change at most. Mean and count must agree with the values, so that no half-edited baseline
    passes for a measured one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: FiniteFloat
    sd: Annotated[FiniteFloat, Field(ge=0)]
    dof: Annotated[FiniteFloat, Field(ge=0)]
    n: Annotated[int, Field(ge=1)]
    resolution: Annotated[FiniteFloat, Field(ge=0)]
    values: tuple[FiniteFloat, ...]

    @classmethod
    def of(cls, values: Sequence[float], resolution: float, parts: np.ndarray | None = None) -> Spread:
        """Statistics of at least one value; the deviation of a single one is 0.

        ``parts`` (seeds x queries) add up to the values over queries, and are independent from query to
        query: where chance belongs to an image alone. Their variances then add up to that of a value, known
        from many more observations (Satterthwaite 1946 counts the degrees of freedom), so that few seeds
        give narrow bounds. Not used where the seeds scatter more than that, beyond chance.
        """
        n, mean = len(values), statistics.mean(values)
        # statistics works in exact fractions: equal values have a deviation of exactly zero.
        sd, dof = statistics.stdev(values) if n > 1 else 0.0, float(n - 1)
        if parts is not None and n > 1:
            each = parts.var(axis=0, ddof=1)
            pooled = float(each.sum())
            if pooled > 0 and (n - 1) * sd**2 / pooled < special.chdtri(n - 1, _MORE_THAN_QUERIES):
                sd, dof = math.sqrt(pooled), (n - 1) * pooled**2 / float((each**2).sum())
        return cls(mean=mean, sd=sd, dof=dof, n=n, resolution=resolution, values=tuple(values))

    @model_validator(mode="after")
    def _agrees(self) -> Spread:
        if self.n != len(self.values):
            raise ValueError(f"n is {self.n}, and there are {len(self.values)} values")
        mean = statistics.mean(self.values)
        if not math.isclose(self.mean, mean, rel_tol=_TEXT, abs_tol=_TEXT):
            raise ValueError(f"mean is {self.mean:g}, and that of the values is {mean:g}")
        if self.sd > 0 and self.dof < 1:
            raise ValueError(f"a deviation with {self.dof:g} degrees of freedom says nothing")
        return self


#: Chance, at most, that a re-run with other seeds of the same code moves anywhere in one gate. Half of the
#: one in a hundred that is promised: seeds are not exactly normal.
FALSE_ALARM = 0.005

#: More seeds than anybody gives.
MOST_SEEDS = 1000


def allowed(spread: Spread, seeds: int, comparisons: int, false_alarm: float = FALSE_ALARM) -> float:
    """Largest difference, either way, between the mean of ``seeds`` new values and that of the baseline.

    Half the width of the two-sided prediction interval for the mean of m further observations from a normal
    distribution of which n were seen: t * s * sqrt(1/n + 1/m), t with the degrees of freedom of s (Hahn and
    Meeker, Statistical Intervals, 1991, section 4.8). The level is ``false_alarm`` over all ``comparisons``
    of the gate (Bonferroni), which holds however they depend on each other. Never less than the metric's
    resolution: seeds of something deterministic have no spread, and another machine rounds differently.
    """
    return max(spread.resolution, _width(spread, spread.n, seeds, comparisons, false_alarm))


def seeds_needed(
    spread: Spread, least: float, comparisons: int, false_alarm: float = FALSE_ALARM
) -> int | None:
    """How many seeds, in the baseline and in the re-run, bring :func:`allowed` below ``least``.

    As far as ``spread`` can tell; None where no number up to :data:`MOST_SEEDS` does.
    """
    if spread.resolution >= least:
        return None

    def enough(count: int) -> bool:
        return _width(spread, count, count, comparisons, false_alarm) < least

    # More seeds never widen a bound.
    found = bisect.bisect_left(range(MOST_SEEDS + 1), True, lo=2, key=enough)
    return found if found <= MOST_SEEDS else None


def _width(spread: Spread, before: int, now: int, comparisons: int, false_alarm: float) -> float:
    """Half the interval if the baseline had seen ``before`` seeds with the deviation that it saw."""
    if not spread.sd:
        return 0.0
    dof = spread.dof * (before - 1) / (spread.n - 1) if spread.n > 1 else spread.dof
    t = -float(special.stdtrit(dof, false_alarm / (2 * comparisons)))
    return t * spread.sd * math.sqrt(1 / before + 1 / now)
