"""The result tables of the HTML report: what a row says, what shares a table. No browser needed."""

from __future__ import annotations

import pytest
from markup import text, tree
from page_records import page_text, study

from vbench.core.errors import BadInput
from vbench.reports.tables import split


def results(page):
    """The result tables: title -> (headings, rows), a row being the cells of each of its lines."""
    found = {}
    for section in page.iter("section"):
        if "data-section" in section.attrib:
            heads = [text(th).rstrip("↕ ") for th in section.iter("th")]
            bodies = [[tr for tr in body if tr.get("class") != "more"] for body in section.iter("tbody")]
            rows = [[[text(td) for td in tr] for tr in body] for body in bodies]
            found[text(next(section.iter("h3")))] = (heads, rows)
    return found


def row_of(page, title, attack):
    heads, rows = next(table for name, table in results(page).items() if title in name)
    row = next(row for row in rows if row[0][0].startswith(attack))
    return [dict(zip(heads, line, strict=True)) for line in row]


def test_every_row_of_the_text_tables_stands_on_the_page(page):
    entries = [one for _, one in split(study())]
    expected = {one[0][0].title: sum(not row.control for _, row in one) for one in entries}
    found = results(page)
    assert sorted(len(rows) for _, rows in found.values()) == sorted(expected.values())
    assert sum(len(rows) for _, rows in found.values()) == 9, "two seeds of uap are one row"


def test_a_row_says_before_after_spread_drop_and_cost(page):
    row, *_ = row_of(page, "8/255, query side, 8-bit", "uap")
    assert row["attack"] == "uap2 seeds" and row["knowledge"] == "universal, training"
    assert row["Rank-1"] == "80.0 → 40.0± 14.1"
    assert row["Rank-1 drop"] == "40.0 (50 %)[35.0, 45.0]"
    assert row["gradient evaluations"] == "6400 a fit" and row["s"] == "12.1"


def test_controls_stand_under_their_attack(page):
    (main, control) = row_of(page, "SYNTHETIC", "fsam_uap (stealthy)")
    assert main["Rank-1"].startswith("80.0 → 20.0")
    assert control["attack"] == "· modules, d = 0" and control["Rank-1"].startswith("80.0 → 70.0")


def test_protocols_budgets_and_kinds_of_data_never_share_a_table(page):
    titles = list(results(page))
    assert len(titles) == 3
    assert sum("SYNTHETIC" in title for title in titles) == 2
    assert sum("4/255" in title for title in titles) == 1
    grouped = tree(page_text(study(), group="attack"))
    for title, (heads, _) in results(grouped).items():
        assert ("budget" in heads) == (title.startswith("SYNTHETIC attack pgd")), title
        assert title.startswith("SYNTHETIC ") or "attack odfa" in title or "attack pgd" in title


def test_bold_is_what_the_text_tables_print_bold(page):
    bold = [
        text(next(body.iter("span")))
        for section in page.iter("section")
        if "data-section" in section.attrib
        for body in section.iter("tbody")
        if any(td.get("data-label") == "Rank-1" and list(td.iter("strong")) for td in body.iter("td"))
    ]
    assert bold == ["pgd"], "only pgd has rivals of the same knowledge on one victim"


def test_numbers_sort_by_value_and_not_by_what_is_shown(page):
    cell = next(td for td in page.iter("td") if td.get("data-label") == "Rank-1" and "40.0" in text(td))
    assert float(cell.get("data-value")) == pytest.approx(40.0)


def test_metrics_group_and_versus_are_those_of_the_text_tables():
    found = results(tree(page_text(study(), metrics=("map", "asr"), group="victim", versus="noise")))
    assert any(title.startswith("SYNTHETIC victim agw") for title in found)
    heads, rows = found[next(title for title in found if "victim agw" in title and "SYNTHETIC" in title)]
    assert "mAP" in heads and "ASR" in heads and "Rank-1" not in heads
    at = heads.index("p vs noise (mAP)")
    values = {(row[0][0], row[0][heads.index("budget")][6:11]): row[0][at] for row in rows}
    assert values["noise", "8/255"] == values["pgd", "4/255"] == "", "nothing to compare with"
    assert 0 < float(values["pgd", "8/255"].split()[0].lstrip("<")) <= 1
    with pytest.raises(BadInput, match="did you mean 'victim'"):
        page_text(study(), group="victm")


def test_published_figures_stand_beside_real_rows_alone(page):
    for title, (heads, _) in results(page).items():
        assert ("published" in heads) == ("SYNTHETIC" not in title)
