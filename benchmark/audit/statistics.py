"""When two Rank-1 of the same queries differ by more than chance, and when one is no more than chance."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from vbench.metrics.flips import flip_noise

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
    return float(binom.ppf(1 - TAIL, queries, chance)) / queries


def half_width(queries: int) -> float:
    """Largest half-width of a 95 % interval of a share over so many queries: at a share of one half."""
    return float(1.96 * np.sqrt(0.25 / queries))
