"""Tables for a column of a paper: printed names, clean once, only what was asked for."""

from __future__ import annotations

import re

import pytest
from test_tables import record

from vbench.core.errors import BadInput
from vbench.reports.narrow import narrow
from vbench.reports.printed import protocol_words, read_labels, short_names
from vbench.reports.table import write


def lines(table):
    return [[cell.text for cell in line] for line in table.lines]


def test_the_clean_result_stands_once_above_what_is_left_after_each_attack():
    (table,) = narrow([record("fsam_uap", 0.2), record("metric_ifgsm[steps=3]", 0.1)])
    assert [column.title for column in table.columns] == ["Victim", "Attack", "Rank-1", "mAP"]
    assert [line[:3] for line in lines(table)] == [
        ["AGW", "clean", "80.0"],
        ["", "FSAM-UAP", "20.0"],
        ["", "Metric-IFGSM", "10.0"],
    ]
    text = write([table], "latex")
    assert text.count("80.0") == 1 and "Metric-IFGSM: steps=3" in text
    assert "resizebox" not in text and "_" not in re.sub(r"L_|\\_", "", text)


def test_seeds_have_a_spread_and_other_metrics_can_be_asked_for():
    (table,) = narrow([record("uap", 0.2, seed=0), record("uap", 0.4, seed=1)], ("r10", "asr"))
    assert [column.title for column in table.columns[2:]] == ["Rank-10", "ASR"]
    assert "±" in lines(table)[1][2]


def test_attacks_that_differ_in_settings_alone_are_numbered_and_explained():
    short, notes = short_names(["uap[batch=16]", "uap", "pgd[steps=3]"])
    assert short == {"uap[batch=16]": "UAP (1)", "uap": "UAP (2)", "pgd[steps=3]": "PGD"}
    assert list(notes.values()) == ["UAP (1): batch=16", "UAP (2): default settings", "PGD: steps=3"]


def test_names_can_be_given():
    labels = read_labels(["uap[batch=16]=Our UAP", "agw=Model A"])
    assert labels == {"uap[batch=16]": "Our UAP", "agw": "Model A"}
    (table,) = narrow([record("uap[batch=16]"), record("uap")], labels=labels)
    assert [line[:2] for line in lines(table)] == [["Model A", "clean"], ["", "Our UAP"], ["", "UAP"]]


def test_names_that_do_not_work_are_refused():
    with pytest.raises(BadInput, match="NAME=TEXT"):
        read_labels(["uap"])
    with pytest.raises(BadInput, match="did you mean 'uap'"):
        short_names(["uap"], {"uop": "x"})
    with pytest.raises(BadInput, match="one name"):
        short_names(["uap[batch=1]", "uap"], {"uap[batch=1]": "UAP"})


def test_protocols_have_words():
    assert protocol_words("regdb/vis2ir/trial-3") == "RegDB, visible to infrared, split 3 of 10"
    assert protocol_words("sysu/indoor/multi/ir2vis/randperm10").startswith(
        "SYSU-MM01, indoor search, multi-shot"
    )
    assert protocol_words("mine/any") == "mine/any"


def test_victims_of_one_name_are_told_apart_across_the_settings_of_a_table():
    found = [record("uap"), record("uap", eps="4/255")]
    found[1].config["victim"] = {"name": "agw", "weights": "other"}
    (table,) = narrow(found, group="attack")
    assert [line[0] for line in lines(table) if line[1] == "clean"] == ["AGW (1)", "AGW (2)"]
    assert "AGW (1): weights w; AGW (2): weights other." in table.notes
