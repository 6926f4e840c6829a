"""Pandas tables of records, and their HTML for notebooks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from markup import text, tree
from test_tables import record, trials

from vbench.api import Result
from vbench.core.errors import BadInput
from vbench.records.record import CompressedArray, ControlRecord
from vbench.reports.frame import frame
from vbench.reports.tables import report


def packed(**arrays):
    return {name: CompressedArray.pack(np.array(values)) for name, values in arrays.items()}


def with_queries(**more):
    nan = np.float32("nan")
    return record(
        per_query=packed(
            clean_rank=[[1, 3, 0], [1, 1, 2]],
            adversarial_rank=[[4, 3, 0], [1, 7, 2]],
            clean_ap=np.array([[1, 0.5, nan], [1, 0.9, 0.4]], "f4"),
            adversarial_ap=np.array([[0.2, 0.5, nan], [1, 0.1, 0.4]], "f4"),
        ),
        **more,
    )


def test_a_row_a_run_is_in_shares_and_drops_add_up():
    table = frame([record(after=0.3), record("uap", after=0.5, synthetic=False)])
    assert table["attack"].tolist() == ["pgd", "uap"] and table["synthetic"].tolist() == [True, False]
    assert table["r1_after"].tolist() == pytest.approx([0.3, 0.5])
    assert (table["r1_before"] - table["r1_after"]).tolist() == pytest.approx(table["r1_drop"].tolist())


def test_a_row_a_trial_holds_each_trials_figures():
    table = frame([record(after=0.3)], "trial")
    assert table["trial"].tolist() == ["0", "1"]
    assert table["r1_before"].tolist() == pytest.approx([0.79, 0.81])
    assert table["r1_after"].tolist() == pytest.approx([0.29, 0.31])
    assert table["queries"].tolist() == [10, 10]


def test_a_row_a_query_knows_what_has_no_match():
    table = frame([with_queries(), with_queries(seed=1)], "query")
    assert len(table) == 12 and table["seed"].tolist() == [0] * 6 + [1] * 6
    first = table[table["seed"] == 0]
    assert first["query"].tolist() == [0, 1, 2] * 2 and first["trial"].tolist() == ["0"] * 3 + ["1"] * 3
    assert first["rank_before"].tolist()[:2] == [1, 3] and first["rank_before"].isna().tolist()[2]
    assert first["rank_after"].isna().sum() == 1 and first["ap_after"].isna().sum() == 1
    lost = first[(first["rank_before"] == 1) & (first["rank_after"] > 1)]
    assert lost["query"].tolist() == [0, 1]


def test_a_battery_says_whose_image_each_query_is():
    from vbench.records.record import MemberRecord

    members = [MemberRecord(label=name, trials=trials(0.3), won=0.5) for name in ("noise", "uap")]
    battery = with_queries(members=members)
    battery.per_query["member"] = CompressedArray.pack(np.array([[0, 1, 0], [1, 1, 0]]))
    assert frame([battery], "query")["member"].tolist() == ["noise", "uap", "noise", "uap", "uap", "noise"]


def test_bad_requests_are_refused():
    with pytest.raises(BadInput, match="did you mean 'query'"):
        frame([record()], "querry")
    with pytest.raises(BadInput, match="has no per-query values"):
        frame([record()], "query")
    assert frame([], "query").empty and frame([], "trial").empty and frame([]).empty


def test_a_notebook_shows_the_same_table_marked_synthetic_and_escaped():
    controls = [ControlRecord(name="modules, d = 0", trials=trials(0.7))]
    hostile = record("<script>alert(1)</script>", after=0.3, controls=controls)
    page = report([hostile], "html")
    assert "<script>" not in page
    elements = list(tree(page).iter())
    texts = [text(one) for one in elements]
    assert "SYNTHETIC" in texts and "<script>alert(1)</script>" in texts
    assert {"(clean)", "80.0", "30.0"} <= set(texts) and any("modules, d = 0" in one for one in texts)
    assert [one.tag for one in elements].count("tr") == 4
    assert "SYNTHETIC" not in report([record(synthetic=False)], "html")
    assert report([record(), record(eps="4/255")], "html").count("<table>") == 2
    assert report([], "html") == "<div>no record</div>"


def test_a_result_prints_its_table_and_hands_out_what_is_single():
    one, other = record(after=0.3), record("uap", after=0.5)
    both = Result((one, other))
    assert repr(both) == str(both) and "(clean)" in str(both) and len(both) == 2
    assert Result((one,)).record is one
    with pytest.raises(BadInput, match="holds 2 records"):
        _ = both.record
    with pytest.raises(BadInput, match="holds 0 perturbations"):
        _ = both.perturbation
    assert [found.label for found in both.where("attack=uap")] == ["uap"]
    assert "80.0" in both.report("latex") and both._repr_html_() == report([one, other], "html")
    assert isinstance(both.to_frame(), pd.DataFrame) and str(Result(())) == "no record"


def test_reading_a_folder_warns_of_what_is_broken(tmp_path):
    Result((record(),)).save(tmp_path)
    (tmp_path / "torn.json").write_text("{")
    with pytest.warns(UserWarning, match=r"torn\.json"):
        assert len(Result.read(tmp_path)) == 1
    with pytest.raises(BadInput, match="no readable run record"):
        Result.read(tmp_path / "nothing")
