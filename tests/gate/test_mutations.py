"""The gate on the project's own baseline: green as it is and with other seeds, red for each broken line."""

from __future__ import annotations

import pytest
from gate.gate_mutations import FSAM, METRIC, MUTATIONS, PGD, UAP

ALL = ("noise", "fgsm", PGD, METRIC, "odfa", "square[queries=50]", UAP, FSAM)


def test_as_it_is_everything_is_within_bounds(baseline, rerun):
    gate = rerun(ALL, baseline.seeds[:1])
    assert [(str(row.subject), row.metric, row.note) for row in gate.moved] == []
    assert len(gate.rows) == baseline.comparisons


def test_other_seeds_are_within_bounds(rerun):
    gate = rerun(("noise", METRIC, UAP), (1000, 1001, 1002))
    assert [(str(row.subject), row.metric, row.note) for row in gate.moved] == []


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_a_broken_line_turns_it_red(baseline, rerun, mutation):
    with mutation.applied():
        gate = rerun((mutation.attack,), baseline.seeds[:2])
    told = [row.metric.name if row.metric else row.note for row in gate.moved]
    for expected in mutation.seen:
        assert any(expected == one or expected in one.partition(": ")[2] for one in told), told


def test_the_lines_are_whole_again_afterwards(baseline, rerun):
    for mutation in MUTATIONS:
        with mutation.applied():
            pass
    assert rerun((METRIC,), baseline.seeds[:2]).green
