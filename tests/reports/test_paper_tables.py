"""The paper's tables from filled slots: order, spread, published figures, rows without figures."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from test_tables import record, trials

from vbench.core.errors import BadInput
from vbench.records.record import ControlRecord
from vbench.records.spec import DataSpec, ModelSpec, RunSpec, Setup
from vbench.reports.published import printed_by, printed_name
from vbench.reports.tables import report_of
from vbench.sweep.paper import (
    ABLATION,
    ATTENTION,
    BLOCKS,
    COMPARISON,
    SUITES,
    SYSTEMS,
    Place,
    Settings,
    Slot,
)
from vbench.sweep.paper_table import paper_report

ALL = "sysu/all/single/ir2vis/seed10"
CARD = {"norm": "linf", "eps": "8/255", "side": "query", "quantize": True}

#: Rank-1 and mAP on SYSU-MM01, Rank-1 and mAP on RegDB, as the paper prints them.
PRINTED = {
    "ablation": {
        "noise": (16.67, 18.28, 33.00, 30.60),
        "noise + FSAM": (12.75, 12.17, 15.74, 12.91),
        "noise + SFM": (11.04, 13.19, 20.73, 19.81),
        "noise + AQAL": (14.62, 15.52, 15.86, 15.53),
        "noise + FSAM + SFM": (5.10, 6.35, 7.58, 7.51),
        "noise + FSAM + AQAL": (1.07, 3.27, 0.58, 1.35),
        "noise + SFM + AQAL": (1.74, 3.81, 6.70, 5.77),
        "noise + FSAM + SFM + AQAL": (0.79, 2.81, 0.49, 0.85),
    },
    "comparison": {
        "FGSM": (36.02, 31.80, 45.87, 44.39),
        "UAP (Li)": (17.59, 25.35, 29.51, 24.42),
        "FSAM-UAP": (0.79, 2.81, 0.49, 0.85),
    },
    "attention": {
        "SE": (1.66, 3.30, 0.53, 1.15),
        "ECA": (1.60, 3.24, 0.68, 1.20),
        "FSAM": (0.79, 2.81, 0.49, 0.85),
    },
    "blocks": {"all blocks": (0.79, 2.81, 0.49, 0.85)},
}
CLEAN = {
    "ablation": (46.73, 45.78, 82.24, 76.52),
    "comparison": (47.50, 47.65, 70.05, 66.37),
    "blocks": (47.50, 47.65, 70.05, 66.37),
}


def place(protocol=ALL, synthetic=False):
    return Place(protocol, synthetic, 2, tuple(CARD.items()))


def filled(suite, where, victim="agw", level="pixel", seeds=(0,), after=0.3, **more):
    """Every slot of a suite, with a record each."""
    return [
        Slot(
            *(suite, line, level, victim, where, seed),
            spec=RunSpec(Setup(DataSpec("sysu", "sysu"), ModelSpec(victim)), line.attack),
            record=record(
                line.attack, after, seed, protocol=where.protocol, synthetic=where.synthetic, **more
            ),
        )
        for line in suite.lines
        for seed in seeds
    ]


def table(text):
    """Row name -> cells by column, where a column after another's is the published one."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    head = lines[0]
    keys = [f"{head[i - 1]} published" if name == "published" else name for i, name in enumerate(head)]
    return {line[0]: dict(zip(keys, line, strict=True)) for line in lines[2:] if len(line) == len(keys)}


def figure(cell):
    return float(re.match(r"[\d.]+", cell)[0])


@pytest.mark.parametrize("name", list(PRINTED))
@pytest.mark.parametrize("data", ["sysu", "regdb"])
def test_each_row_has_the_papers_figures_beside_it_on_its_data(name, data):
    protocols = [ALL] if data == "sysu" else [f"regdb/vis2ir/trial-{n}" for n in range(1, 11)]
    slots = [one for protocol in protocols for one in filled(SUITES[name], place(protocol))]
    rows = table(paper_report(slots, "markdown"))
    column = 0 if data == "sysu" else 2
    for line in SUITES[name].lines:
        cells = rows[line.name]
        expected = PRINTED[name].get(line.name)
        found = [cells[f"{metric} published"] for metric in ("Rank-1", "mAP")]
        assert (
            [figure(cell) for cell in found] == list(expected[column : column + 2])
            if expected
            else (found == ["", ""])
        )
    if name in CLEAN:
        clean = [figure(rows["clean"][f"{metric} published"]) for metric in ("Rank-1", "mAP")]
        assert clean == list(CLEAN[name][column : column + 2])


def test_attention_has_rank_10_and_minp_too():
    rows = table(paper_report(filled(ATTENTION, place()), "markdown"))
    assert figure(rows["ECA"]["Rank-10 published"]) == 11.65
    assert figure(rows["SE"]["mINP published"]) == 1.76
    assert rows["clean"]["Rank-1 published"] == "", "that table prints no clean row"


def test_systems_stand_before_and_after_with_the_figures_of_each():
    slots = [one for victim in ("agw", "ddag", "mrcn") for one in filled(SYSTEMS, place(), victim)]
    text = paper_report(slots, "markdown")
    rows = table(text)
    assert list(rows) == ["agw", "ddag", "mrcn"]
    assert re.match(r"54\.75 \[\d\] → 1\.65 \[\d\]", rows["ddag"]["Rank-1 published"])
    assert re.match(r"67\.30 \[\d\] → 5\.87 \[\d\]", rows["mrcn"]["mAP published"])
    assert rows["agw"]["Rank-1"] == "80.0 → 30.0"


@pytest.mark.parametrize("style", ["plain", "markdown", "latex", "csv", "json"])
def test_nothing_is_published_beside_drawn_people(style):
    for suite in SUITES.values():
        text = paper_report(filled(suite, place(synthetic=True)), style)
        assert "published" not in text.lower() and "16.67" not in text
        assert "SYNTHETIC" in text or style in ("csv", "json")
    assert "published" in paper_report(filled(ABLATION, place()), style).lower()


@pytest.mark.parametrize("other", ["sysu/all/single/ir2vis/randperm10", "sysu/indoor/single/ir2vis/seed10"])
def test_another_protocol_has_nothing_beside_it(other):
    assert "ublished, as printed" not in paper_report(filled(ABLATION, place(other)))


def test_some_splits_of_regdb_are_said_to_be_some():
    text = paper_report(filled(ABLATION, place("regdb/vis2ir/trial-3")))
    assert "regdb/vis2ir (split 3)" in text and "mean of ten splits; not all are here" in text
    protocols = [f"regdb/vis2ir/trial-{n}" for n in range(1, 11)]
    whole = paper_report([one for p in protocols for one in filled(ABLATION, place(p))])
    assert "not all are here" not in whole and "mean ± sd over 10 splits" in whole


def test_seeds_are_averaged_with_their_spread():
    first, second = filled(SYSTEMS, place(), after=0.3), filled(SYSTEMS, place(), seeds=(1,), after=0.5)
    rows = table(paper_report([*first, *second], "markdown"))
    assert rows["agw"]["Rank-1"] == "80.0 → 40.0 ± 14.1"


def test_levels_and_victims_are_tables_of_their_own_and_verdicts_are_said():
    controls = [ControlRecord(name="modules, d = 0", trials=trials(0.7))]
    pixel = filled(ABLATION, place())
    feature = filled(ABLATION, place(), level="feature", stealthy=False, controls=controls)
    text = paper_report([*pixel, *feature, *filled(ABLATION, place(), "ddag")], "markdown")
    titles = [line for line in text.splitlines() if line.startswith("**")]
    assert len(titles) == 4
    assert "pixel level" in titles[0] and "feature level" in titles[1]
    assert titles[2].startswith("**controls") and "ddag" in titles[3]
    assert text.count("destructive") == len(ABLATION.lines)
    assert "| noise + FSAM " in text.split(titles[2])[1] and "70.0" in text.split(titles[2])[1]


def test_a_random_order_an_idle_loss_and_the_preset_are_said():
    chance = {"r1": 0.0123, "r5": 0.05, "r10": 0.1, "r20": 0.2, "map": 0.03, "minp": 0.01}
    warned = {"warnings": ["AQAL inactive (0.0 % of triples)"], "fit_log": {"active_triples": 0.0}}
    slots = filled(ABLATION, place(), chance=chance, **warned)
    text = paper_report(slots, "markdown", chance=True)
    assert table(text)["random order"]["Rank-1"] == "1.2" and list(table(text))[1] == "random order"
    assert text.count("AQAL inactive (0.0 % of triples)") == len(slots)
    assert "fsam_uap with preset paper" in text
    assert "random order" not in paper_report(slots, "markdown")
    flat = json.loads(paper_report(slots, "json", chance=True))[0]
    assert (flat["r1_chance"], flat["active_triples"], flat["preset"]) == (0.0123, 0.0, "paper")
    assert "random order" not in paper_report(filled(ABLATION, place()), chance=True), "older records"


def test_rows_without_figures_say_why():
    slots = filled(COMPARISON, place())
    slots[1] = replace(slots[1], record=None, reason="attack 'fgsm' yields non-finite pixels")
    slots[2] = replace(slots[2], record=None)
    slots[3] = replace(slots[3], record=None, spec=None, reason="there is no block4")
    text = paper_report(slots, "markdown")
    rows = table(text)
    assert [rows[name]["Rank-1"] for name in ("FGSM", "PGD", "UAP (DeepFool)")] == [
        "failed",
        "not run",
        "n/a",
    ]
    assert "FGSM failed: attack 'fgsm' yields non-finite pixels" in text
    assert (
        "PGD: 1 of 1 runs are not done" in text
        and "UAP (DeepFool) does not apply: there is no block4" in text
    )
    flat = {line["row"]: line for line in json.loads(paper_report(slots, "json"))}
    assert [flat[name]["state"] for name in ("noise", "FGSM", "PGD", "UAP (DeepFool)")] == [
        "done",
        "failed",
        "not run",
        "n/a",
    ]
    assert flat["FGSM"]["r1_published"] == pytest.approx(0.3602) and flat["FGSM"]["r1_after"] is None
    nothing = paper_report([replace(one, record=None, reason="") for one in slots])
    assert "not run" in nothing


def test_plain_tables_fit_and_break_no_name():
    slots = filled(COMPARISON, place())
    narrow, wide = paper_report(slots), paper_report(slots, wide=True)
    assert max(map(len, narrow.splitlines())) <= 100
    assert "UAP (DeepFool)" in narrow and "No room for gradients, s, run: --wide" in narrow
    assert "deepfool_uap" in wide and "10 an image" in wide and "No room" not in wide


def test_a_seed_that_fails_is_named():
    slots = filled(SYSTEMS, place(), seeds=(0, 1))
    slots[1] = replace(slots[1], record=None, reason="the AQAL hinge is dead")
    text = paper_report(slots)
    assert f"agw failed with seed 1 on {ALL}: the AQAL hinge is dead" in " ".join(text.split())


def test_an_unknown_style_is_refused():
    with pytest.raises(BadInput, match="did you mean 'markdown'"):
        paper_report(filled(SYSTEMS, place()), "markdwon")


def test_every_published_row_of_a_suite_is_in_the_file_and_named_like_its_record():
    for suite in SUITES.values():
        for line in suite.lines:
            if line.published:
                assert printed_by(suite.source, "agw", line.published, ALL), (suite.name, line.name)
                attack = Settings().attack(line, "pixel", ("stem",) * 5)
                one = record(attack.name)
                one.config["attack"] = {"name": attack.name, "settings": attack.settings()}
                assert printed_name(one) == line.published


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({"fsam": True, "sfm": True, "aqal": True}, "0.79"),
        ({"fsam": True, "sfm": False, "aqal": False}, "12.75"),
        ({"attention": "eca"}, "1.60"),
        ({"attention": "eca", "sfm": False}, None),
        ({"attention": "identity"}, None),
        ({"identity": False}, None),
        ({"reading": "ranking", "fsam": False, "sfm": False}, None),
    ],
)
def test_reports_of_variants_get_their_own_row_or_none(settings, shown):
    one = record("fsam_uap", protocol=ALL, synthetic=False)
    one.config["attack"]["settings"] = settings
    text = report_of([one], metrics=("r1",))
    found = re.search(r"→ (\d+\.\d+) \[", text)
    assert (found and found[1]) == shown


def test_blocks_name_what_the_paper_prints_nothing_about():
    text = " ".join(paper_report(filled(BLOCKS, place())).split())
    assert "No published value is known for block0, block1, block2, block3, block4." in text
