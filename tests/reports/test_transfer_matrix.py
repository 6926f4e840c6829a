"""The surrogate x victim matrix says what its records say."""

from __future__ import annotations

from test_tables import record

from vbench.reports.transfer import transfer_matrices


def cells(text):
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("---")]
    return {line[0]: line[1:] for line in lines}


def moved(surrogate, victim, after, weights="", **more):
    """A transfer; ``surrogate`` is a model or, joined by +, several."""
    made = record(attack="uap", after=after, surrogate=surrogate, **more)
    names = surrogate.split("+")
    options = {"members": [{"name": name} for name in names]} if len(names) > 1 else {}
    source = {"name": surrogate, "options": options, "weights": weights}
    of = {**made.config["victim"], "name": victim.split(" ")[0], "options": {}}
    config = {**made.config, "victim": of, "surrogate": source}
    return made.model_copy(update={"victim_label": victim, "config": config})


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


def test_the_victim_itself_is_not_among_the_others_whatever_its_precision_or_company():
    low = [moved("agw", "agw (bfloat16)", 0.02), moved("agw", "caj (bfloat16)", 0.6)]
    assert cells(transfer_matrices(low))["agw"][-1] == "60.0"
    both = [moved("agw+caj", "agw", 0.02), moved("agw+caj", "mmn", 0.6)]
    assert cells(transfer_matrices(both))["agw+caj"][-1] == "60.0"


def test_surrogates_of_one_name_and_other_weights_have_rows_of_their_own():
    table = transfer_matrices([moved("agw", "mmn", 0.2, "aa"), moved("agw", "mmn", 0.6, "bb")])
    assert "agw[weights aa]" in table and "20.0" in table and "60.0" in table and "40.0" not in table


def test_replays_of_several_surrogates_share_a_matrix_apart_from_runs_that_learn():
    found = [moved("agw", "mmn", 0.2), moved("ddag", "mmn", 0.6), moved("agw", "mmn", 0.3)]
    for number, replay in enumerate(found[:2]):
        replay.config["perturbation"] = f"{number:08}"
    replayed, learnt = transfer_matrices(found, style="markdown").split("**SYNTHETIC")[1:]
    assert "uap (replayed), Rank-1" in replayed and "uap, Rank-1" in learnt
    assert "20.0" in replayed and "60.0" in replayed and "30.0" in learnt
