"""Paired statistics against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from vbench.core.errors import BadInput
from vbench.metrics import attack_success_rate, bootstrap_drop


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("shape", [(50,), (4, 50)])
def test_a_constant_drop_has_an_interval_of_no_width(shape):
    clean = rng().random(shape)
    low, high = bootstrap_drop(clean, clean - 0.25, rng())
    assert low == pytest.approx(0.25, abs=1e-12)
    assert high == pytest.approx(0.25, abs=1e-12)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_interval_matches_the_normal_limit(level):
    clean, adversarial = rng(1).normal(0.7, 0.2, 2000), rng(2).normal(0.3, 0.1, 2000)
    drop = clean - adversarial
    half = norm.ppf(0.5 + level / 2) * drop.std() / math.sqrt(len(drop))
    low, high = bootstrap_drop(clean, adversarial, rng(), resamples=8000, level=level)
    assert low == pytest.approx(drop.mean() - half, abs=0.08 * half)
    assert high == pytest.approx(drop.mean() + half, abs=0.08 * half)


def test_interval_covers_the_true_drop_as_often_as_it_says():
    source, covered, rounds = rng(3), 0, 400
    for _ in range(rounds):
        hardness = source.random(120)
        clean, adversarial = hardness, 0.5 * hardness + source.normal(0, 0.1, 120)
        low, high = bootstrap_drop(clean, adversarial, source, resamples=300, level=0.9)
        covered += low <= 0.25 <= high
    assert 0.85 <= covered / rounds <= 0.95


def test_pairing_makes_the_interval_narrower():
    hardness = rng(4).random(300)
    clean, adversarial = hardness, hardness - 0.2 + rng(5).normal(0, 0.01, 300)
    paired = np.subtract(*bootstrap_drop(clean, adversarial, rng())[::-1])
    broken = np.subtract(*bootstrap_drop(clean, rng(6).permutation(adversarial), rng())[::-1])
    assert paired < broken / 10


def test_trials_of_one_query_stay_together():
    """Ten identical trials say no more than one: the interval must not shrink."""
    clean, adversarial = rng(7).random(100), rng(8).random(100)
    once = bootstrap_drop(clean, adversarial, rng())
    ten = bootstrap_drop(np.tile(clean, (10, 1)), np.tile(adversarial, (10, 1)), rng())
    assert ten == pytest.approx(once, abs=1e-12)


def test_queries_without_a_match_change_nothing_and_weigh_nothing():
    clean = np.array([[0.9, 0.4, np.nan, 0.8], [0.9, np.nan, np.nan, 0.8]])
    low, high = bootstrap_drop(clean, clean - 0.1, rng())
    assert (low, high) == pytest.approx((0.1, 0.1), abs=1e-12)
    values, gap = rng(9).random(40), np.full(5, np.nan)
    with_gaps = bootstrap_drop(np.concatenate([values, gap]), np.concatenate([0.5 * values, gap]), rng())
    assert with_gaps == bootstrap_drop(values, 0.5 * values, rng())


def test_the_mean_is_that_of_trials_and_not_of_all_values():
    """A drop of 1 on every query of the short trial and of 0 on the long one averages to one half."""
    clean = np.ones((2, 2000))
    clean[0, 100:] = np.nan
    adversarial = np.vstack([clean[0] - 1, clean[1]])
    low, high = bootstrap_drop(clean, adversarial, rng())
    assert (low, high) == pytest.approx((0.5, 0.5), abs=1e-12)


def test_same_generator_same_bits_and_no_global_state():
    clean, adversarial = rng(1).random(60), rng(2).random(60)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert bootstrap_drop(clean, adversarial, rng(5)) == bootstrap_drop(clean, adversarial, rng(5))
    assert bootstrap_drop(clean, adversarial, rng(5)) != bootstrap_drop(clean, adversarial, rng(6))
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


@pytest.mark.parametrize(
    ("clean", "adversarial", "options", "message"),
    [
        (np.ones(3), np.ones(4), {}, "trials x queries"),
        (np.ones((2, 2, 2)), np.ones((2, 2, 2)), {}, "trials x queries"),
        (np.array([1.0, np.nan]), np.array([1.0, 1.0]), {}, "disagree"),
        (np.full(3, np.nan), np.full(3, np.nan), {}, "no query"),
        (np.ones(3), np.ones(3), {"resamples": 0}, "resamples"),
        (np.ones(3), np.ones(3), {"level": 95}, "level"),
    ],
)
def test_bootstrap_refuses(clean, adversarial, options, message):
    with pytest.raises(BadInput, match=message):
        bootstrap_drop(clean, adversarial, rng(), **options)


def test_attack_success_rate_counts_lost_first_ranks():
    clean = np.array([1, 1, 1, 1, 2, 0, 5])
    attacked = np.array([1, 2, 90, 1, 1, 0, 9])
    assert attack_success_rate(clean, attacked) == 0.5
    assert attack_success_rate(clean, clean) == 0.0
    assert attack_success_rate(clean.reshape(7, 1), attacked.reshape(7, 1)) == 0.5


def test_attack_success_rate_without_a_clean_hit_is_unknown():
    assert math.isnan(attack_success_rate(np.array([2, 0]), np.array([3, 0])))


def test_attack_success_rate_refuses_ranks_of_different_queries():
    with pytest.raises(BadInput, match="shape"):
        attack_success_rate(np.ones(3), np.ones(2))
    with pytest.raises(BadInput, match="match"):
        attack_success_rate(np.array([1, 1]), np.array([1, 0]))
