"""Verdicts, causes and what is printed of them, from measurements that are made up."""

from __future__ import annotations

import copy
from xml.etree import ElementTree as ET

import pytest

from vbench.gate.baseline import Measured
from vbench.gate.compare import Taken, Takings, Verdict, compare
from vbench.gate.report import render, summary, to_junit


def takings(baseline):
    """What a re-run that gives the very same numbers would measure."""

    def taken(one: Measured) -> Taken:
        place = copy.copy(one)
        values = {name: list(spread.values) for name, spread in one.metrics.items()}
        worth = {name: [spread.resolution] * spread.n for name, spread in one.metrics.items()}
        return Taken(place, copy.deepcopy(one.config), values, worth)

    return Takings(
        [taken(one) for one in baseline.victims],
        [taken(one) for one in baseline.attacks],
        copy.deepcopy(baseline.environment),
    )


@pytest.fixture
def same(baseline):
    return takings(baseline)


def moved(baseline, found):
    gate = compare(baseline, found, baseline.seeds)
    return {(row.subject.attack, row.metric.name if row.metric else row.note): row for row in gate.moved}


def attack(found, name):
    return next(one for one in found.attacks if one.place.attack == name)


def test_the_same_numbers_are_the_same_to_the_last_bit(baseline, same):
    gate = compare(baseline, same, baseline.seeds)
    assert gate.green and {row.verdict for row in gate.rows} == {Verdict.SAME}
    assert len(gate.rows) == baseline.comparisons
    assert render(gate) == (
        f"green: {len(gate.rows)} figures within bounds, {len(gate.rows)} of them to the last bit (20 seeds)"
    )


@pytest.mark.parametrize(("share", "verdict"), [(0.99, None), (1.01, "up"), (-0.99, None), (-1.01, "down")])
def test_two_sided_and_exactly_at_the_bound(baseline, same, share, verdict):
    one = attack(same, "metric_ifgsm")
    spread = next(a for a in baseline.attacks if a.attack == "metric_ifgsm").metrics["drop_r1"]
    by = share * baseline.bound(spread, len(baseline.seeds))
    one.values["drop_r1"] = [value + by for value in spread.values]
    rows = moved(baseline, same)
    assert {key: row.verdict.value for key, row in rows.items()} == (
        {("metric_ifgsm", "drop_r1"): verdict} if verdict else {}
    )
    if verdict:
        (row,) = rows.values()
        assert row.word == {"up": "stronger", "down": "weaker"}[verdict]
        assert row.change == pytest.approx(by)


def test_a_failed_seed_is_red_and_says_why_once(baseline, same):
    one = attack(same, "pgd")
    for name in one.values:
        one.values[name] = one.values[name][2:]
    one.failures = {0: "out of luck", 1: "out of luck"}
    assert [(key, row.verdict) for key, row in moved(baseline, same).items()] == [
        (("pgd", "out of luck"), Verdict.FAILED)
    ]


def test_an_attack_that_all_seeds_lose_is_red_once(baseline, same):
    one = attack(same, "pgd")
    one.values.clear()
    one.failures = dict.fromkeys(baseline.seeds, "gone")
    assert list(moved(baseline, same)) == [("pgd", "gone")]


def test_what_was_not_run_or_lost_its_figure_is_missing(baseline, same):
    same.attacks = [one for one in same.attacks if one.place.attack != "fgsm"]
    del attack(same, "pgd").values["asr"]
    rows = moved(baseline, same)
    assert {key: row.verdict for key, row in rows.items()} == {
        ("fgsm", "was not run"): Verdict.MISSING,
        ("pgd", "asr"): Verdict.MISSING,
    }


def test_other_weights_or_images_are_told_of_the_victim_once(baseline, same):
    for one in (*same.victims, *same.attacks):
        one.config["victim"]["weights"] = "0" * 16
        one.config["dataset"]["fingerprint"] = "1" * 16
    rows = moved(baseline, same)
    assert [name.split(":")[0] for _, name in rows] == [
        "other weights",
        "other test images or another protocol",
    ]
    assert all(row.subject.attack == "" and row.verdict is Verdict.CHANGED for row in rows.values())


def test_what_else_differs_is_listed_and_not_red(baseline, same):
    same.environment["versions"]["torch"] = "1.0"
    attack(same, "pgd").config["attack"]["settings"]["steps"] = 5
    gate = compare(baseline, same, baseline.seeds)
    assert gate.green
    assert any(line.startswith("torch: ") and line.endswith(" -> 1.0") for line in gate.causes)
    assert "agw, pgd: attack.settings.steps: 30 -> 5" in gate.causes


def test_a_figure_that_nothing_could_move_is_named_and_not_green(baseline, same):
    wide = baseline.model_copy(deep=True)
    spread = next(one for one in wide.attacks if one.attack == "pgd").metrics["asr"]
    object.__setattr__(spread, "sd", 1.0)
    gate = compare(wide, same, wide.seeds)
    assert [(row.subject.attack, row.metric.name) for row in gate.unguarded] == [("pgd", "asr")]
    assert not gate.green and not gate.moved
    assert "cannot guard" in render(gate) and "seeds would do)" in summary(gate)
    assert ET.fromstring(to_junit(gate)).get("failures") == "1"
    assert "cannot guard" in summary(gate).split("<details>")[0]
    left = wide.without(wide.unguarded(len(wide.seeds)))
    assert left.comparisons == wide.comparisons - 1 and not left.unguarded(len(left.seeds))


def test_the_projects_own_gate_guards_every_figure(baseline):
    assert baseline.unguarded(len(baseline.seeds)) == baseline.unguarded(2) == []


@pytest.fixture
def red(baseline, same):
    one = attack(same, "pgd")
    one.values["drop_r1"] = [0.0] * len(baseline.seeds)
    attack(same, "fgsm").failures = {0: "a <b>|bad</b>\nday\x00"}
    return compare(baseline, same, baseline.seeds)


def test_the_table_holds_what_moved_alone_and_all_if_asked(red):
    text = render(red)
    assert "weaker" in text and "metric_ifgsm" not in text
    assert text.endswith(f"red: 2 of {len(red.rows)} figures moved (20 seeds): agw, fgsm; agw, pgd")
    assert "metric_ifgsm" in render(red, every=True)


def test_junit_counts_failures_and_errors_and_survives_any_text(red, baseline):
    root = ET.fromstring(to_junit(red))
    assert root.get("failures") == "1" and root.get("errors") == "1"
    assert int(root.get("tests")) == len(red.rows) == len(root.findall(".//testcase"))
    suites = {suite.get("name"): suite for suite in root}
    assert len(suites) == len(baseline.subjects)
    for suite in root:
        assert int(suite.get("failures")) == len(suite.findall(".//failure"))
        assert int(suite.get("errors")) == len(suite.findall(".//error"))
    assert "a <b>|bad</b>" in root.find(".//error").get("message")


def test_the_summary_is_a_table_a_page_cannot_be_broken_by(red):
    text = summary(red)
    assert text.startswith("### vbench check: red: 2 of")
    table = [line for line in text.split("<details>")[0].splitlines() if line.startswith("|")]
    assert len(table) == 2 + 2
    bars = [line.replace("\\|", "").count("|") for line in table]
    assert len(set(bars)) == 1
    assert "<b>" not in text.replace("\\<", "")
