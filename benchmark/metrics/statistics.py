"""Paired bootstrap, sign-flip test, bounds for random rankings, prediction bounds over seeds."""

from __future__ import annotations

import bisect
import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from scipy import special

from vbench.core.errors import BadInput

#: NumPy's kinds: bool, signed and unsigned integer, floating point.
_NUMBERS = "biuf"

#: Resamples processed at once.
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
    mean is over valid queries within a trial, then over trials, as in reports. Queries are resampled with
    replacement, each with its clean and adversarial values of all trials, so the interval covers only the
    choice of queries (Efron and Tibshirani, 1993, chapter 13).

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
        picks = generator.integers(0, queries, (size, queries)) + queries * np.arange(size)[:, None]
        times = np.bincount(picks.ravel(), minlength=size * queries).reshape(size, queries).astype(np.float64)
        valid = times @ counted
        per_trial = np.divide(times @ summed, valid, out=np.zeros_like(valid), where=valid > 0)
        means.append(per_trial.sum(1) / (valid > 0).sum(1))
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)


def attack_success_rate(clean_first_rank: np.ndarray, adversarial_first_rank: np.ndarray) -> float:
    """Share of queries with clean first-match rank 1 that no longer have it; NaN if no query has it.

    Both: ``first_match_rank`` of the same queries, any shape, 0 for a query without a match. Such queries
    are in neither numerator nor denominator. Raises :class:`BadInput` for different shapes or valid queries.
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


#: Sign patterns processed at once.
_FLIPS_AT_ONCE = 512


def flip_noise(
    differences: np.ndarray,
    groups: np.ndarray,
    tail: float,
    generator: np.random.Generator,
    flips: int = 20_000,
) -> float:
    """The value that the mean of ``differences`` exceeds with probability <= ``tail`` if signs are random.

    ``differences``: N finite values, one per query, between two measurements of it. ``groups``: N labels; the
    values of one group keep or change their sign together, since the images of one identity are not
    independent. A mean above the result is significantly positive, one below its negative significantly
    negative, each at the one-sided level ``tail``. With groups of one and 0/1 outcomes this is McNemar's
    exact test (Fisher's randomisation test of pairs: Good, Permutation, Parametric and Bootstrap Tests, 2005,
    section 3.2). All sign patterns are enumerated if there are at most ``flips``, else that many are sampled.

    Raises :class:`BadInput` for shapes that differ, nothing to compare and a ``tail`` outside (0, 1).
    """
    if not 0 < tail < 1:
        raise BadInput(f"tail must lie between 0 and 1, got {tail}")
    totals, count = _totals(differences, groups)
    null = _signs(len(totals), flips, generator) @ totals / count
    # Sums of the same values in another order differ in their last digits; equal ones must not exceed it.
    return float(np.quantile(null, 1 - tail, method="higher")) + 1e-12


def flip_pvalue(
    differences: np.ndarray, groups: np.ndarray, generator: np.random.Generator, flips: int = 10_000
) -> float:
    """Two-sided p-value of the mean of ``differences`` being 0, by the test of :func:`flip_noise`.

    The share of sign patterns whose mean is at least as far from 0 as the measured one, itself included:
    exact if all are enumerated, else never below 1 / ``flips`` (Phipson and Smyth, Permutation P-values
    Should Never Be Zero, 2010). 1 if no group differs. Raises as :func:`flip_noise` does.
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
        sums = _random_sums(totals, min(_FLIPS_AT_ONCE, flips - start), generator)
        count += int((np.abs(sums) >= reached).sum())
    return count / flips


def _random_sums(totals: np.ndarray, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Sums of ``totals`` under ``rows`` random sign patterns, one random bit per sign."""
    width = -(-len(totals) // 8)
    random = np.frombuffer(generator.bytes(rows * width), np.uint8).reshape(rows, width)
    kept = np.unpackbits(random, axis=1, count=len(totals))
    return 2 * (kept @ totals) - totals.sum()


def _totals(differences: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, int]:
    """Sums of the groups whose sum is not 0, and the number of values."""
    differences = real_array("differences", differences)
    if differences.ndim != 1 or differences.shape != np.shape(groups) or not len(differences):
        raise BadInput(
            f"differences and groups must be N values, got {differences.shape}, {np.shape(groups)}"
        )
    _, group = np.unique(groups, return_inverse=True)
    totals = np.bincount(group, weights=differences)
    return totals[totals != 0], len(differences)


def _signs(count: int, flips: int, generator: np.random.Generator) -> np.ndarray:
    """Sign patterns of +-1, one per row: all, or ``flips`` sampled ones, the first without any flip."""
    if 2**count <= flips:
        bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    else:
        bits = generator.integers(0, 2, (flips, count), dtype=np.int8)
        bits[0] = 1
    return bits * 2.0 - 1.0


#: Largest probability that an audit wrongly contradicts an honest evaluation anywhere.
FAMILY = 0.01

#: One-sided decisions in one audit; Bonferroni's correction shares FAMILY among them.
DECISIONS = 21

#: One-sided level of each decision.
TAIL = FAMILY / DECISIONS

#: With fewer identities not even a change of all of them is significant at that level.
LEAST_IDENTITIES = math.floor(-math.log2(TAIL)) + 1


@dataclass(frozen=True)
class Comparison:
    """Two measurements of the same queries: ``difference`` is second minus first, of means in [0, 1].

    ``noise`` bounds a random difference at the one-sided level ``TAIL``; see :func:`flip_noise`.
    """

    difference: float
    noise: float

    @property
    def higher(self) -> bool:
        """Whether the second is significantly higher."""
        return self.difference > self.noise

    @property
    def lower(self) -> bool:
        """Whether the second is significantly lower."""
        return self.difference < -self.noise

    def __str__(self) -> str:
        return f"{100 * self.difference:+.1f}, noise {100 * self.noise:.1f}"


def compare(first: np.ndarray, second: np.ndarray, ids: np.ndarray, seed: int) -> Comparison:
    """Compare two N (queries) or trials x N arrays of the same queries; NaN marks a query without a match.

    Trials repeat the same queries, so a query's values are first averaged over them. Queries of one identity
    are not independent, so the test flips the signs of identities.
    """
    change = per_query(second) - per_query(first)
    known = ~np.isnan(change)
    change, ids = change[known], ids[known]
    noise = flip_noise(change, ids, TAIL, np.random.default_rng(seed))
    return Comparison(float(change.mean()), noise)


def per_query(values: np.ndarray) -> np.ndarray:
    """Mean over trials; NaN if a query has no value in any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(np.atleast_2d(values), axis=0)


def chance_bound(chance: float, queries: int) -> float:
    """Highest Rank-1 that a random ranking reaches, at the level ``TAIL``: binomial over queries.

    ``chance`` is its expected Rank-1. Trials repeat the same queries and do not count as more of them.
    """
    hits = np.arange(queries + 1)
    return int(np.searchsorted(special.bdtr(hits, queries, chance), 1 - TAIL)) / queries


def half_width(queries: int) -> float:
    """Half-width of the 95 % interval of a share of ``queries``, at a share of 0.5, where it is widest."""
    return float(1.96 * np.sqrt(0.25 / queries))


#: Largest relative error of mean and deviation written as decimal text.
_TEXT_ERROR = 1e-9

#: Significance level at which the variance over seeds exceeds the pooled variance of queries.
_SPREAD_LEVEL = 0.05


class Spread(BaseModel):
    """``values`` of one metric, one per seed, with their ``mean`` and number ``n``.

    ``sd`` is the standard deviation over seeds, with ``dof`` degrees of freedom: that of the values (n - 1),
    or pooled from their queries. ``resolution`` is the largest effect of one query, below which differences
    do not count. Mean and count must agree with the values, so that a partly edited baseline is refused.
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

        ``parts`` (seeds x queries): terms whose sum over queries is the value, independent between queries
        because each image has its own random numbers. The sum of their variances then estimates the variance
        of a value from many more observations (degrees of freedom by Satterthwaite, 1946), so that few seeds
        give narrow bounds. Not used if the values vary significantly more between seeds.
        """
        n, mean = len(values), statistics.mean(values)
        # The statistics module uses exact fractions: equal values have a deviation of exactly zero.
        sd, dof = statistics.stdev(values) if n > 1 else 0.0, float(n - 1)
        if parts is not None and n > 1:
            each = parts.var(axis=0, ddof=1)
            pooled = float(each.sum())
            if pooled > 0 and (n - 1) * sd**2 / pooled < special.chdtri(n - 1, _SPREAD_LEVEL):
                sd, dof = math.sqrt(pooled), (n - 1) * pooled**2 / float((each**2).sum())
        return cls(mean=mean, sd=sd, dof=dof, n=n, resolution=resolution, values=tuple(values))

    @model_validator(mode="after")
    def _agrees(self) -> Spread:
        if self.n != len(self.values):
            raise ValueError(f"n is {self.n}, and there are {len(self.values)} values")
        mean = statistics.mean(self.values)
        if not math.isclose(self.mean, mean, rel_tol=_TEXT_ERROR, abs_tol=_TEXT_ERROR):
            raise ValueError(f"mean is {self.mean:g}, and that of the values is {mean:g}")
        if self.sd > 0 and self.dof < 1:
            raise ValueError(f"a deviation with {self.dof:g} degrees of freedom says nothing")
        return self


#: Largest probability that a re-run of the same code with other seeds fails a gate. Half of the promised one
#: in a hundred, because values over seeds are not exactly normal.
FALSE_ALARM = 0.005

#: Upper limit on the number of seeds.
MOST_SEEDS = 1000


def allowed(spread: Spread, seeds: int, comparisons: int, false_alarm: float = FALSE_ALARM) -> float:
    """Largest difference, either way, between the mean of ``seeds`` new values and that of the baseline.

    Half the width of the two-sided prediction interval for the mean of m further observations from a normal
    distribution of which n were seen: t * s * sqrt(1/n + 1/m), t with the degrees of freedom of s (Hahn and
    Meeker, Statistical Intervals, 1991, section 4.8). The level is ``false_alarm`` over all ``comparisons``
    of the gate (Bonferroni), valid for dependent comparisons. Never below the metric's resolution: a
    deterministic metric has no spread over seeds, yet differs between machines, which round differently.
    """
    return max(spread.resolution, _width(spread, spread.n, seeds, comparisons, false_alarm))


def seeds_needed(
    spread: Spread, least: float, comparisons: int, false_alarm: float = FALSE_ALARM
) -> int | None:
    """The number of seeds, in baseline and re-run each, that brings :func:`allowed` below ``least``.

    An estimate from ``spread``; None if no number up to :data:`MOST_SEEDS` suffices.
    """
    if spread.resolution >= least:
        return None

    def enough(count: int) -> bool:
        return _width(spread, count, count, comparisons, false_alarm) < least

    # Bisection, since more seeds never widen a bound.
    found = bisect.bisect_left(range(MOST_SEEDS + 1), True, lo=2, key=enough)
    return found if found <= MOST_SEEDS else None


def _width(spread: Spread, before: int, now: int, comparisons: int, false_alarm: float) -> float:
    """Half the interval for a baseline of ``before`` seeds with the deviation of ``spread``."""
    if not spread.sd:
        return 0.0
    dof = spread.dof * (before - 1) / (spread.n - 1) if spread.n > 1 else spread.dof
    t = -float(special.stdtrit(dof, false_alarm / (2 * comparisons)))
    return t * spread.sd * math.sqrt(1 / before + 1 / now)


def plain_array(name: str, values: Any) -> np.ndarray:
    """``values`` as an array in native byte order, contiguous and writable; copied only if it is not.

    Accepts all that NumPy does, and tensors on any device, with gradients, of any floating type. ``name`` is
    used in messages. Raises :class:`BadInput` for text, objects and complex values.
    """
    if hasattr(values, "detach"):
        # A tensor, recognised without importing torch. NumPy supports neither bfloat16 nor GPU tensors.
        values = values.detach().cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()
    try:
        array = np.asarray(values)
        if array.dtype.kind == "O":
            # Table columns may hold numbers as objects.
            array = np.asarray(array.tolist())
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name} must be numbers in an array, got {type(values).__name__}") from error
    if array.dtype.kind not in _NUMBERS:
        raise BadInput(f"{name} must be real numbers, got {array.dtype.name}")
    # By kind and size: NumPy has two types of eight-byte integers on some systems, torch accepts one.
    return np.require(array, f"={array.dtype.str[1:]}", ("C_CONTIGUOUS", "WRITEABLE"))


def real_array(name: str, values: Any) -> np.ndarray:
    """``values`` as float64; see :func:`plain_array`."""
    return plain_array(name, values).astype(np.float64)
