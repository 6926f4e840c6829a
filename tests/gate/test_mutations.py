"""The gate on the project's own baseline: green as it is and with other seeds, red for each broken line."""

from __future__ import annotations

import pytest
from gate.conftest import only
from gate.gate_mutations import FSAM, METRIC, MUTATIONS, PGD, UAP

MOST = ("noise", "fgsm", PGD, METRIC, "odfa", UAP)
ALL = (*MOST, "square[queries=50]", FSAM)


@pytest.mark.parametrize("attacks", [MOST, pytest.param(ALL, marks=pytest.mark.slow)], ids=["most", "all"])
@pytest.mark.slow
def test_as_it_is_everything_is_within_bounds(baseline, rerun, attacks):
    gate = rerun(attacks, baseline.seeds[:1])
    assert [(str(row.subject), row.metric, row.note) for row in gate.moved] == []
    assert len(gate.rows) == only(baseline, attacks).comparisons
    assert len(baseline.attacks) == len(ALL)


@pytest.mark.slow
def test_other_seeds_are_within_bounds(rerun):
    gate = rerun(("noise", METRIC), (1000, 1001))
    assert [(str(row.subject), row.metric, row.note) for row in gate.moved] == []


@pytest.mark.slow
def test_other_seeds_of_a_universal_attack_are_within_bounds(rerun):
    gate = rerun(("noise", METRIC, UAP), (1000, 1001, 1002))
    assert [(str(row.subject), row.metric, row.note) for row in gate.moved] == []


#: Of every kind one that is quick: of the victim, of the side, of the budget, of what an attack does.
QUICK = {
    "the runner does not project",
    "pixels are not normalised",
    "modalities are swapped",
    "half of the steps",
}


@pytest.mark.parametrize(
    "mutation",
    [
        pytest.param(one, id=one.what, marks=[] if one.what in QUICK else pytest.mark.slow)
        for one in MUTATIONS
    ],
)
def test_a_broken_line_turns_it_red(baseline, rerun, mutation):
    with mutation.applied():
        gate = rerun((mutation.attack,), baseline.seeds[:2])
    told = [row.metric.name if row.metric else row.note for row in gate.moved]
    for expected in mutation.seen:
        assert any(expected == one or expected in one.partition(": ")[2] for one in told), told


@pytest.mark.slow
def test_the_lines_are_whole_again_afterwards(baseline, rerun):
    for mutation in MUTATIONS:
        with mutation.applied():
            pass
    assert rerun((METRIC,), baseline.seeds[:1]).green
