"""Bounds of a gate: as wide as chance, no wider, never below what one query can change."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbench.gate.baseline import METRICS
from vbench.metrics.statistics import MOST_SEEDS, Spread, allowed, seeds_needed

# Two-sided quantiles of Student's t from printed tables: degrees of freedom, level, t.
TABLE = [(4, 0.05, 2.776), (9, 0.01, 3.250), (19, 0.001, 3.883), (1, 0.05, 12.706)]


@pytest.mark.parametrize(("dof", "level", "t"), TABLE)
def test_against_a_printed_table(dof, level, t):
    n, new = dof + 1, 3
    spread = Spread(mean=0, sd=2, dof=dof, n=n, resolution=0, values=(0,) * n)
    assert allowed(spread, new, 1, level) == pytest.approx(t * 2 * math.sqrt(1 / n + 1 / new), rel=1e-3)
    # Seven comparisons share the level.
    assert allowed(spread, new, 7, 7 * level) == pytest.approx(allowed(spread, new, 1, level))


def test_as_many_alarms_as_promised_and_no_fewer():
    """5000 baselines of 5 seeds, each checked with 3 others: the share outside is the level."""
    rng, level = np.random.default_rng(0), 0.05
    outside = 0
    for _ in range(5000):
        spread = Spread.of(rng.normal(0.3, 0.02, 5).tolist(), 0.0)
        outside += abs(rng.normal(0.3, 0.02, 3).mean() - spread.mean) > allowed(spread, 3, 1, level)
    # Three standard deviations of a binomial of 5000.
    assert outside / 5000 == pytest.approx(level, abs=3 * math.sqrt(level * (1 - level) / 5000))


def test_something_without_chance_may_move_by_its_resolution():
    assert allowed(Spread.of([0.25] * 5, 0.01), 5, 10) == 0.01
    narrow = Spread.of([0.25, 0.2500001, 0.25, 0.25], 0.01)
    assert allowed(narrow, 5, 10) == 0.01


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6, unique=True), st.floats(0.01, 2))
def test_the_number_of_seeds_that_would_do_is_the_smallest(values, least):
    spread = Spread.of(values, 0.001)
    needed = seeds_needed(spread, least, 20)

    def bound(n):
        wider = Spread(
            mean=spread.mean, sd=spread.sd, dof=n - 1, n=n, resolution=0, values=(spread.mean,) * n
        )
        return allowed(wider, n, 20)

    assert needed is None or bound(needed) < least
    assert needed == 2 or bound((needed or MOST_SEEDS + 1) - 1) >= least


def test_what_one_query_decides_no_number_of_seeds_guards():
    assert seeds_needed(Spread.of([0.2, 0.3], 0.5), 0.5, 10) is None


@pytest.mark.parametrize(
    ("name", "mean", "clean", "reach"),
    [
        ("r1", 0.8, None, 0.8),
        ("asr", 0.1, None, 0.9),
        ("drop_r1", 0.5, 0.8, 0.5),
        ("drop_map", 0.1, 0.8, 0.7),
        ("drop_r1", -0.1, 0.2, 0.3),
        ("drop_r1", 0.4, None, 0.6),
        ("l2", 3.0, None, 3.0),
        ("evaluations", 0.0, None, math.inf),
    ],
)
def test_how_far_a_result_can_lie(name, mean, clean, reach):
    assert METRICS[name].reach(mean, clean) == pytest.approx(reach)


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=8, unique=True),
    st.integers(1, 20),
    st.integers(1, 100),
)
def test_more_seeds_and_fewer_comparisons_never_widen(values, seeds, comparisons):
    spread = Spread.of(values, 0.001)
    bound = allowed(spread, seeds, comparisons)
    assert bound >= 0.001
    assert allowed(spread, seeds + 1, comparisons) <= bound
    assert allowed(spread, seeds, comparisons + 1) >= bound


def test_the_spread_of_a_few_seeds_is_known_from_their_queries():
    """200 queries flip coins of their own: three seeds know the deviation well, and the mean less so."""
    rng, queries = np.random.default_rng(1), 200
    chance = rng.uniform(0.2, 0.8, queries)
    true = math.sqrt((chance * (1 - chance)).sum()) / queries
    pooled, plain = [], []
    for _ in range(300):
        parts = (rng.random((3, queries)) < chance) / queries
        values = parts.sum(1).tolist()
        found = Spread.of(values, 0.0, parts)
        pooled.append(found.sd)
        plain.append(Spread.of(values, 0.0).sd)
        assert found.dof >= 2
    assert np.median(pooled) == pytest.approx(true, rel=0.1)
    # One in twenty scatters more than its queries explain, and falls back on its seeds.
    middle = [np.subtract(*np.percentile(found, [75, 25])) for found in (pooled, plain)]
    assert middle[0] < middle[1] / 3


def test_seeds_that_share_their_chance_are_not_taken_for_independent_queries():
    """One coin a seed moves all queries together: the spread must be that of the seeds."""
    parts = np.outer([0.0, 1.0, 0.2, 0.9, 0.1], np.full(200, 1 / 200))
    parts += np.random.default_rng(2).normal(0, 1e-5, parts.shape)
    values = parts.sum(1).tolist()
    assert (
        Spread.of(values, 0.0, parts).sd == Spread.of(values, 0.0).sd == pytest.approx(np.std(values, ddof=1))
    )
