"""The sign-flip test against McNemar's exact test and against SciPy's permutation test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test

from vbench.core.errors import BadInput
from vbench.metrics.statistics import flip_noise, flip_pvalue

TAIL = 0.01


def beyond(differences, groups=None, tail=TAIL, **options):
    groups = np.arange(len(differences)) if groups is None else groups
    noise = flip_noise(differences, groups, tail, np.random.default_rng(0), **options)
    return differences.mean() > noise


@pytest.mark.parametrize("discordant", [6, 9, 14])
def test_single_outcomes_are_mcnemars_exact_test(discordant):
    for lost in range(discordant + 1):
        differences = np.concatenate([np.ones(lost), -np.ones(discordant - lost), np.zeros(20)])
        exact = binomtest(lost, discordant, 0.5, alternative="greater").pvalue
        assert beyond(differences) == (exact <= TAIL), (lost, exact)


@pytest.mark.parametrize("count", [10, 40])
def test_means_agree_with_scipys_permutation_test(count):
    generator = np.random.default_rng(count)
    spread, checked = generator.normal(size=count), 0
    for shift in np.linspace(0, 1.5, 12):
        first, second = np.zeros(count), spread + shift
        p = permutation_test(
            (second, first),
            lambda a, b, axis: (a - b).mean(axis),
            permutation_type="samples",
            vectorized=True,
            alternative="greater",
            n_resamples=20_000,
            random_state=1,
        ).pvalue
        if abs(p - TAIL) > 0.003:
            checked += 1
            assert beyond(second) == (p < TAIL), (shift, p)
    assert checked > 8


def test_images_of_one_person_are_one_observation():
    differences, people = np.ones(30), np.repeat(np.arange(3), 10)
    assert beyond(differences)
    assert not beyond(differences, people), "three people are no evidence at 1 %, however many images"


def test_chance_is_called_chance_as_often_as_promised():
    generator = np.random.default_rng(5)
    found = [generator.choice([-1.0, 0.0, 1.0], size=40) for _ in range(400)]
    share = np.mean([beyond(one, tail=0.1, flips=2000) for one in found])
    assert 0.03 < share < 0.14


def test_no_difference_and_bad_input():
    assert not beyond(np.zeros(5))
    for differences, groups, tail in [
        (np.zeros((2, 2)), np.zeros(2), TAIL),
        (np.zeros(2), np.zeros(3), TAIL),
        (np.zeros(0), np.zeros(0), TAIL),
        (np.zeros(2), np.zeros(2), 1.0),
    ]:
        with pytest.raises(BadInput):
            flip_noise(differences, groups, tail, np.random.default_rng(0))


@pytest.mark.parametrize("count", [8, 40])
def test_two_sided_p_is_scipys(count):
    generator = np.random.default_rng(count)
    spread = generator.normal(size=count)
    for shift in np.linspace(-0.8, 0.8, 7):
        differences = spread + shift
        expected = permutation_test(
            (differences, np.zeros(count)),
            lambda a, b, axis: (a - b).mean(axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=20_000 if count > 10 else np.inf,
            random_state=np.random.default_rng(1),
        ).pvalue
        found = flip_pvalue(differences, np.arange(count), np.random.default_rng(2), 20_000)
        # Enumerated values agree exactly; drawn ones within four standard errors of either.
        margin = 1e-12 if count < 10 else 1e-4 + 4 * np.sqrt(2 * expected * (1 - expected) / 20_000)
        assert abs(found - expected) <= margin, shift


@pytest.mark.parametrize("lost", range(8))
def test_two_sided_p_of_single_outcomes_is_mcnemars(lost):
    differences = np.concatenate([np.ones(lost), -np.ones(7 - lost), np.zeros(12)])
    found = flip_pvalue(differences, np.arange(19), np.random.default_rng(0))
    assert found == pytest.approx(binomtest(lost, 7, 0.5).pvalue)


def test_p_is_never_zero_and_one_without_a_difference():
    assert flip_pvalue(np.ones(500), np.arange(500), np.random.default_rng(0), 1000) == 1 / 1000
    assert flip_pvalue(np.zeros(5), np.arange(5), np.random.default_rng(0)) == 1.0


def test_p_of_groups_counts_groups_not_values():
    # Twenty equal values of two people are two observations: of four sign patterns two are as extreme.
    differences, people = np.ones(20), np.repeat([0, 1], 10)
    assert flip_pvalue(differences, people, np.random.default_rng(0)) == 0.5
