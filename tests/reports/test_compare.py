"""Attacks against victims in one table, archives of records, and the page made of both."""

from __future__ import annotations

import csv
import io
import json
from fractions import Fraction
from statistics import mean, stdev

import pytest
from bench.ablation_page import PAGE, filled
from test_tables import record

from vbench.core.errors import BadInput
from vbench.core.threat import ThreatModel, show_budget
from vbench.records.store import RunStore, to_archive
from vbench.reports.compare import comparison
from vbench.reports.frame import flat
from vbench.reports.rows import setting
from vbench.reports.tables import report


def some():
    """uap is lowest on agw, cmps on pmt; three seeds a point apart."""
    return [
        record(attack, after + seed / 100, seed, victim_label=victim)
        for victim, values in (("agw", (0.3, 0.4)), ("pmt", (0.5, 0.2)))
        for attack, after in zip(("uap", "cmps"), values, strict=True)
        for seed in (0, 1, 2)
    ]


def test_a_cell_is_the_mean_over_seeds_with_its_deviation():
    rows = json.loads(comparison(some(), "r1", "json"))
    (found,) = [row for row in rows if (row["attack"], row["victim"]) == ("uap", "pmt")]
    values = [0.50, 0.51, 0.52]
    assert (found["attacked"], found["sd"]) == pytest.approx((mean(values), stdev(values)))
    assert found["seeds"] == 3


def test_other_weights_of_a_model_are_another_column():
    several = [record("uap", after, seed) for after, seed in ((0.1, 0), (0.3, 1))]
    several[1].config["victim"] = {"name": "agw", "weights": "other"}
    rows = json.loads(comparison(several, "r1", "json"))
    assert [(row["victim"], row["attacked"], row["seeds"]) for row in rows] == [
        ("agw[weights w]", pytest.approx(0.1), 1),
        ("agw[weights other]", pytest.approx(0.3), 1),
    ]


@pytest.mark.parametrize(
    ("fact", "apart"),
    [
        ("version", ("version 1", "version 2")),
        ("structure", ("structure 1", "structure 2")),
        ("members", ("{0.id}", "{0.id}")),
    ],
)
def test_victims_that_differ_beside_their_weights_have_a_name_each(fact, apart):
    several = [record("uap", after, seed) for after, seed in ((0.1, 0), (0.3, 1))]
    for one, value in zip(several, "12", strict=True):
        one.config["victim"][fact] = value
    names = [f"agw[{said.format(one)}]" for said, one in zip(apart, several, strict=True)]
    rows = json.loads(comparison(several, "r1", "json"))
    assert [(row["victim"], row["attacked"]) for row in rows] == [
        (names[0], pytest.approx(0.1)),
        (names[1], pytest.approx(0.3)),
    ]
    assert all(name in report(several, "markdown") for name in names)


def test_the_lowest_of_a_column_is_bold_and_the_clean_row_comes_first():
    lines = comparison(some()).splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert table == [
        ["attack", "agw", "pmt"],
        ["(clean)", "80.0", "80.0"],
        ["uap", "**31.0 ± 1.0**", "51.0 ± 1.0"],
        ["cmps", "41.0 ± 1.0", "**21.0 ± 1.0**"],
    ]
    assert "L_inf 8/255, query side" in lines[0] and "Rank-1 after the attack" in lines[0]


def test_other_budgets_and_protocols_have_tables_of_their_own():
    other = [record("uap", eps="4/255"), record("uap", protocol="sysu/all/single/vis2ir/seed10")]
    assert comparison([*some(), *other]).count("(clean)") == 3


def test_attacks_crafted_on_a_surrogate_have_a_table_of_their_own():
    white_box, transfer = comparison([*some(), record("sma", surrogate="ddag")]).split("\n\n**")
    assert white_box == comparison(some())
    assert "after the attack crafted on ddag, %" in transfer and "| sma " in transfer


def test_what_a_comparison_cannot_show_is_refused():
    with pytest.raises(BadInput, match="unknown metric 'r2'"):
        comparison(some(), "r2")
    with pytest.raises(BadInput, match="unknown format 'latx'; did you mean 'latex'"):
        comparison(some(), "r1", "latx")


def test_an_archive_makes_the_same_tables_and_a_bad_line_is_named(tmp_path):
    archive = tmp_path / "some.jsonl"
    archive.write_text(to_archive(some()) + "{broken\n")
    found = RunStore(archive).read_all()
    assert comparison(found.records) == comparison(some())
    assert report(found.records, "plain") == report(some(), "plain")
    ((path, _),) = found.broken
    assert str(path) == f"{archive}:13"


def test_the_page_of_the_ablation_shows_what_its_archives_hold():
    text = PAGE.read_text()
    assert text.count("<!-- end -->") == 8
    assert filled(text) == text


def test_a_comparison_is_written_in_every_format():
    rows_of_json = json.loads(comparison(some(), "r1", "json"))
    assert [(row["attack"], row["victim"], row["seeds"]) for row in rows_of_json] == [
        (attack, victim, 3) for victim in ("agw", "pmt") for attack in ("uap", "cmps")
    ]
    assert [row["attacked"] for row in rows_of_json] == pytest.approx([0.31, 0.41, 0.51, 0.21])
    assert all(
        row["clean"] == pytest.approx(0.8) and row["sd"] == pytest.approx(0.01) for row in rows_of_json
    )
    rows = list(csv.DictReader(io.StringIO(comparison(some(), "r1", "csv"))))
    assert [row["attack"] for row in rows] == [row["attack"] for row in rows_of_json]
    text = comparison(some(), "r1", "latex")
    assert r"uap & \textbf{31.0 $\pm$ 1.0} & 51.0 $\pm$ 1.0 \\" in text and r"\begin{tabular}{lrr}" in text


@pytest.mark.parametrize("eps", ["2", "510/255"])
def test_an_l2_budget_is_no_number_of_levels(eps):
    made = record()
    made.config["threat"].update(norm="l2", eps=eps)
    assert setting(made).threat == "L2 2, query side, 8-bit"
    assert flat([made])[0]["eps"] == "2"
    assert show_budget(Fraction(2), "l2") == ThreatModel("2", "l2").card()["eps"] == "2"
