"""The published figures: the file is whole, and they stand only beside the same question."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from test_tables import record

from vbench.core.errors import BadInput
from vbench.core.threat import parse_budget
from vbench.data.protocols import all_protocols
from vbench.reports.published import NOT_IDS, clean_results, printed_report, published
from vbench.reports.rows import KNOWN_METRICS
from vbench.reports.select import select_published
from vbench.reports.tables import report_of

ALL = "sysu/all/single/ir2vis/seed10"


def value(victim, attack, protocol, metric, source):
    (found,) = [
        one.value
        for one in published()
        if (one.victim, one.attack, one.protocol, one.metric) == (victim, attack, protocol, metric)
        and one.source.startswith(source)
    ]
    return found


def test_every_figure_is_of_a_known_kind():
    for one in published():
        assert one.victim == one.victim.strip().lower() and one.victim
        assert one.protocol in {*all_protocols(), *NOT_IDS}, one
        assert one.metric in KNOWN_METRICS, one
        assert 0 < one.value <= 100, one
        assert one.source, one
        if one.budget:
            assert 0 < parse_budget(one.budget) < 1, one
        assert one.attack or not one.budget, "clean figures have no budget"


def test_no_figure_is_there_twice_from_one_source():
    keys = Counter((o.victim, o.attack, o.protocol, o.metric, o.budget, o.source) for o in published())
    assert [key for key, count in keys.items() if count > 1] == []


def test_rank_k_never_falls_with_k():
    cells = {}
    for one in published():
        key = (one.victim, one.attack, one.protocol, one.budget, one.source)
        cells.setdefault(key, {})[one.metric] = one.value
    for key, found in cells.items():
        ranks = [found[metric] for metric in ("r1", "r5", "r10", "r20") if metric in found]
        assert ranks == sorted(ranks), key


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (("agw", "fgsm", ALL, "r1", "CMPS (NeurIPS 2024), table 1"), 42.64),
        (("agw", "fgsm", ALL, "r1", "rebuttal of FSAM-UAP"), 36.02),
        (("agw", "fsam_uap", "regdb/vis2ir", "minp", "rebuttal of FSAM-UAP"), 0.57),
        (("ddag", "cmps", "regdb/ir2vis", "map", "CMPS (NeurIPS 2024), table 2"), 3.19),
        (("deen", "lta", "llcm/ir2vis/seed10", "r20", "CMPS (NeurIPS 2024), table 3"), 70.72),
        (("agw", "", "regdb/vis2ir", "r1", "FSAM-UAP (NeurIPS 2024), ablation"), 82.24),
        (("agw", "fsam_uap", "regdb/ir2vis", "map", "FSAM-UAP (NeurIPS 2024), text"), 0.89),
        (("agw", "uap", ALL, "r10", "rebuttal of FSAM-UAP (NeurIPS 2024), main table"), 56.81),
        (("mrcn", "fsam_uap", "regdb/vis2ir", "r10", "rebuttal of FSAM-UAP"), 8.87),
        (("deen+fsam", "", ALL, "r10", "rebuttal of FSAM-UAP"), 97.70),
        (("hcloss", "", "regdb/vis2ir", "map", "README of 98zyx/Hetero-center-loss"), 72),
        (("agw", "", "sysu/indoor/single/ir2vis/seed10", "minp", "README of mangye16/DDAG"), 59.23),
    ],
)
def test_figures_are_the_printed_ones(cell, expected):
    assert value(*cell) == expected


def test_figures_from_memory_are_not_there():
    # Known by hearsay alone, and never to be printed as published.
    hearsay = {("mrcn", 76.4), ("mrcn", 80.0), ("mrcn", 92.6), ("mrcn", 86.5), ("pmt", 84.83), ("mrcn", 68.9)}
    assert not hearsay & {(one.victim, one.value) for one in published()}


def test_what_the_rebuttals_leave_open_is_marked():
    for one in published():
        if "rebuttal" in one.source:
            assert "table" in one.source
            assert one.protocol != ALL or "single shot and gallery assumed" in one.note, one
        if one.source.startswith("CMPS") and one.attack in ("fgsm", "pgd", "lta", "odfa", "metric_fgsm"):
            assert "eps = 8 stated in the settings, not for this row" in one.note


def measured(attack="fgsm", protocol=ALL, **more):
    return record(attack, protocol=protocol, **{"synthetic": False, **more})


def test_published_figures_stand_beside_the_same_question_with_their_conflict():
    text = report_of([measured()], metrics=("r1", "map"))
    assert "| published" in text
    row = next(line for line in text.splitlines() if line.startswith("| agw"))
    assert re.search(r"Rank-1 47\.50 \[[\d, ]+\].* → 42\.64 \[\d\], 36\.02 \[\d\]; mAP .* → 43\.67", row)
    assert "CMPS (NeurIPS 2024), table 1" in text and "rebuttal of FSAM-UAP" in text
    assert "budget not stated" in text


@pytest.mark.parametrize("style", ["markdown", "latex", "plain"])
def test_nothing_is_published_about_synthetic_data(style):
    assert "published" not in report_of([measured(synthetic=True)], style).lower()
    assert "published" in report_of([measured()], style).lower()


@pytest.mark.parametrize(
    "other", ["sysu/all/single/ir2vis/randperm10", "sysu/all/multi/ir2vis/seed10", "regdb/vis2ir/trial-1"]
)
def test_another_protocol_has_nothing_published_beside_it(other):
    assert "published" not in report_of([measured(protocol=other)])


def test_another_budget_side_or_surrogate_gets_the_clean_figures_alone():
    stated = {"8/255": True, "4/255": False}
    for eps, shown in stated.items():
        assert ("1.11" in report_of([measured("cmps", eps=eps)])) is shown
    gallery = measured()
    gallery.config["threat"]["side"] = "gallery"
    for row in (gallery, measured(surrogate="ddag"), measured("noise")):
        text = report_of([row])
        assert "47.50" in text and "42.64" not in text and "36.02" not in text


def test_flat_rows_of_measured_runs_hold_no_published_figure():
    assert "42.64" not in report_of([measured()], "csv")


def test_printed_alone_conflicts_stand_in_one_cell():
    found = select_published(published(), f"victim=agw attack=fgsm protocol={ALL}")
    text = printed_report(found, "markdown", ("r1",))
    assert "42.64 [1], 36.02 [2]" in text
    assert "[1] CMPS (NeurIPS 2024), table 1" in text and "[2] rebuttal of FSAM-UAP" in text
    assert "not measured here" in text
    for style in ("latex", "plain", "csv", "json"):
        whole = printed_report(published(), style)
        assert "42.64" in whole and "36.02" in whole
    assert len(printed_report(published(), "csv").splitlines()) == 1 + len(published())


def test_printed_figures_are_selected_like_records():
    assert {one.budget for one in select_published(published(), "eps=16/255")} == {"16/255"}
    with pytest.raises(BadInput, match="known: attack, dataset, eps, protocol, victim"):
        select_published(published(), "seed=3")
    with pytest.raises(BadInput, match="there are dataset: llcm"):
        select_published(published(), "dataset=market")


def test_described_clean_results_have_a_figure_in_every_row():
    rows = clean_results("ddag")
    assert rows and all(any(row[1:4]) for row in rows)
