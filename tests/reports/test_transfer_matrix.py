"""The surrogate x victim matrix says what its records say."""

from __future__ import annotations

from test_tables import record

from vbench.reports.tables import transfer_matrices


def cells(text):
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("---")]
    return {line[0]: line[1:] for line in lines}


def moved(surrogate, victim, after, **more):
    made = record(attack="uap", after=after, surrogate=surrogate, **more)
    return made.model_copy(update={"victim_label": victim})


def test_each_cell_is_the_mean_after_the_attack():
    found = [
        moved("agw", "agw", 0.1),
        moved("agw", "ddag", 0.5),
        moved("agw", "deen", 0.3),
        moved("ddag", "agw", 0.6),
        moved("ddag", "ddag", 0.2, seed=0),
        moved("ddag", "ddag", 0.4, seed=1),
        record(attack="uap", after=0.9),
    ]
    table = cells(transfer_matrices(found))
    assert table["agw"] == ["10.0", "50.0", "30.0", "40.0"]
    assert table["ddag"] == ["60.0", "30.0", "60.0"]
    assert table["(clean)"] == ["80.0"] * 3


def test_budgets_and_attacks_are_never_mixed():
    text = transfer_matrices([moved("agw", "ddag", 0.5), moved("agw", "ddag", 0.1, eps="4/255")])
    assert text.count("from \\ on") == 2
    assert "L_inf 4/255" in text and "L_inf 8/255" in text
