"""One table in every format: the same cells, nothing executed, nothing lost."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from markup import tree

from vbench.core.errors import BadInput
from vbench.reports.table import Cell, Column, Group, Table, escape_markdown, html_page, simple, write

HOSTILE = "<b>a|b</b>_&%$#{}[x](y)\x1b[31m\nc"


def table() -> Table:
    groups = [
        Group(
            "one", [Cell("agw"), Cell("3.5", lead="9.0 → ", strong=True)], [[Cell("  · control"), Cell("8")]]
        ),
        Group("two", [Cell(HOSTILE), Cell("")]),
    ]
    columns = [Column("victim"), Column("Rank-1", numeric=True)]
    return Table("a b", "About", columns, groups, ("SYNTHETIC",), "percent", ("Bold: strongest.",))


@pytest.mark.parametrize("style", ["plain", "markdown", "latex", "html"])
def test_every_cell_and_note_is_there_in_order(style):
    text = write([table()], style)
    wanted = ["SYNTHETIC", "About", "percent", "victim", "Rank-1", "agw", "3.5", "control", "8", "strongest"]
    places = [text.index(part) for part in wanted]
    assert places == sorted(places)
    assert "\x1b" not in text


def test_strong_cells_and_what_they_are_called():
    assert "9.0 → 3.5 *" in write([table()], "plain") and "*: strongest." in write([table()], "plain")
    assert "9.0 → **3.5**" in write([table()], "markdown")
    assert r"9.0 $\to$ \textbf{3.5}" in write([table()], "latex")
    assert re.search(r'font-weight:bold[^>]*">9.0 → 3.5<', write([table()], "html"))
    unmarked = simple("", ["a"], [[Cell("1", strong=True)]], starred=False)
    assert "*" not in write([unmarked], "plain")


def test_text_of_strangers_stays_text():
    elements = list(tree(html_page("<title>", write([table()], "html"))).iter())
    assert "b" not in {one.tag for one in elements} and any(
        "<b>a|b</b>" in (one.text or "") for one in elements
    )
    (line,) = [line for line in write([table()], "markdown").splitlines() if "a\\|b" in line]
    assert len(re.findall(r"(?<!\\)\|", line)) == 3 and "\\<b>" in line
    assert escape_markdown("a_b _c_ ~~d~~ &lt; & x") == r"a_b \_c\_ \~\~d\~\~ \&lt; & x"
    assert r"\_\&\%\$\#\{\}" in write([table()], "latex")


def test_csv_and_json_are_the_flat_rows():
    rows = [{"a": 1, "b": "x,y"}, {"a": 2.5, "c": None}]
    one = simple("", ["a"], [], flat=lambda: rows)
    assert [float(row["a"]) for row in csv.DictReader(io.StringIO(write([one, one], "csv")))] == [1, 2.5] * 2
    assert json.loads(write([one], "json")) == [
        {"a": 1, "b": "x,y", "c": None},
        {"a": 2.5, "b": None, "c": None},
    ]


def test_labels_of_latex_tables_differ_and_bad_formats_are_refused():
    text = write([table(), table(), simple("", ["x"], [["1"]], "other")], "latex")
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert len(set(labels)) == 3 and labels[0] == "tab:vbench-a-b"
    with pytest.raises(BadInput, match="format"):
        write([table()], "docx")


def test_a_table_without_headings_is_plain_lines():
    assert write([simple("", ["", ""], [["a", "b"], ["ccc", "d"]])], "plain") == "a    b\nccc  d"
