"""Records of strangers: whatever stands in them is text, in every format of every command that reads them."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ET

import pytest
from payloads import FORMULA, HTML, LATEX, MARKDOWN, PAYLOADS, TERMINAL, Skeleton, as_json, everywhere, store
from strangers import runs

from vbench.records.record import Record
from vbench.records.store import RunStore

FORMATS = ("markdown", "latex", "csv", "json", "jsonl", "plain")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of runs for each payload, with it in every string; and one of the same runs as they were."""
    records = runs()
    made = {"plain": store(tmp_path_factory.mktemp("plain"), [as_json(record) for record in records])}
    for name, text in PAYLOADS.items():
        hostile = [everywhere(record, text) for record in records]
        # Runs of different attacks stay different.
        for record, stranger in zip(records, hostile, strict=True):
            stranger["label"] += f" {record.label}"
        made[name] = store(tmp_path_factory.mktemp(name), hostile)
    return made


def report(vbench, folder, style, *more):
    done = vbench("report", "--runs", folder, "--format", style, "--out", "-", *more)
    assert "skipped" not in done.stderr
    return done.stdout


def test_a_payload_in_every_string_is_read(folders):
    for folder in folders.values():
        contents = RunStore(folder).read_all()
        assert len(contents.records) == 6 and not contents.broken


@pytest.mark.parametrize("style", FORMATS)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_every_format_shows_every_record(folders, vbench, payload, style):
    """And, as the fixture sees to, no character that a terminal obeys."""
    text = report(vbench, folders[payload], style)
    if style == "json":
        assert {row["attack"] for row in json.loads(text)} == {
            f"{PAYLOADS[payload]} {name}" for name in ("uap", "ensemble", "metric_ifgsm", "odfa")
        }
    elif style == "jsonl":
        wanted = RunStore(folders[payload]).read_all().records
        found = [Record.model_validate_json(line) for line in text.splitlines()]
        assert [one.model_dump(exclude={"per_query"}) for one in found] == [
            one.model_dump(exclude={"per_query"}) for one in wanted
        ]
    else:
        assert len(text) > len(report(vbench, folders["plain"], style)) / 2


def test_a_cell_is_never_a_formula(folders, vbench):
    cells = [
        cell for row in csv.reader(io.StringIO(report(vbench, folders["formula"], "csv"))) for cell in row
    ]
    assert f"'{FORMULA}" in cells
    for cell in cells:
        assert not cell.lstrip().startswith(("=", "+", "@")) and not re.match(r"\s*-\D", cell)


def test_markdown_stays_within_its_cells(folders, vbench):
    text = report(vbench, folders["markdown"], "markdown")
    assert not re.search(r"(?<!\\)<[A-Za-z/!?]|(?<!\\)`|\]\(|\]\[|^\s*(#|\[)", text, re.MULTILINE)
    assert {line[:1] for line in text.splitlines()} <= {"", "*", "|", "B", "O", "W"}, "titles, tables, notes"
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) <= 2


@pytest.mark.parametrize("payload", ["latex", "terminal", "markdown"])
def test_latex_runs_no_command_of_a_record(folders, vbench, payload):
    text = report(vbench, folders[payload], "latex")
    commands = set(re.findall(r"\\([A-Za-z]+)", text))
    known = set(re.findall(r"\\([A-Za-z]+)", report(vbench, folders["plain"], "latex")))
    # Names that do not fit a column are spelt out in notes.
    notes = {"par", "smallskip", "footnotesize"}
    assert commands - known - notes <= {
        f"text{name}" for name in ("bf", "backslash", "asciitilde", "asciicircum", "bar", "less", "greater")
    }
    bare = re.sub(r"\\.", "", text)
    assert bare.count("{") == bare.count("}")
    assert "^" not in re.sub(r"\\textasciicircum\{\}", "", text)


@pytest.mark.parametrize("payload", ["html", "markdown", "terminal"])
def test_the_page_has_no_element_of_a_record(folders, vbench, payload, tmp_path):
    pages = {}
    for name in (payload, "plain"):
        out = tmp_path / f"{name}.html"
        vbench("report", "--runs", folders[name], "--format", "html", "--no-figures", "--out", out)
        pages[name] = Skeleton(out.read_text())
    assert pages[payload].elements - pages["plain"].elements <= {
        *(("ul", ()), ("li", ()), ("code", ()), ("u", ()))
    }
    assert {address[:5] for address in pages[payload].addresses if not address.startswith("#")} <= {"data:"}
    if payload == "html":
        assert "".join(pages[payload].text).count("<img src=x onerror=alert(1)>") > 20


@pytest.mark.parametrize("payload", ["html", "latex", "terminal"])
@pytest.mark.parametrize("figure", ["cmc", "eps", "cost"])
def test_a_figure_writes_names_as_text(folders, vbench, payload, figure, tmp_path):
    out = tmp_path / "figure.svg"
    vbench("figure", figure, "--runs", folders[payload], "--out", out)
    root = ET.fromstring(out.read_text())
    for element in root.iter():
        assert element.tag.rpartition("}")[2] not in ("script", "a", "image", "foreignObject", "iframe")
        assert not [name for name in element.attrib if name.startswith("on")]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_comparisons_and_groups_are_text_too(folders, vbench, payload):
    for more in (["--compare", "r1"], ["--group", "attack"], ["--group", "victim"]):
        for style in ("markdown", "plain"):
            text = report(vbench, folders[payload], style, *more)
            assert style != "markdown" or not re.search(r"(?<!\\)<[A-Za-z/]|\]\(|^#", text, re.MULTILINE)


def test_a_site_says_what_it_refuses_in_plain_text(folders, vbench, tmp_path):
    done = vbench("leaderboard", folders["terminal"], folders["html"], "--out", tmp_path / "site", expect=2)
    assert done.stderr.count("refused ") == 12 and not (tmp_path / "site").exists()


def test_a_name_is_no_path(folders, tmp_path):
    """Where records name files, they stay in their folder."""
    assert HTML and LATEX and MARKDOWN and TERMINAL
    record = RunStore(folders["plain"]).read_all().records[0]
    for name in ("../../x", "/etc/passwd", "a/b", "a\\b", "..", "a\x00b", "é" * 300, "a" * 500):
        config = json.loads(json.dumps(record.config))
        config["victim"]["name"] = config["attack"]["name"] = name
        stranger = record.model_copy(update={"config": config})
        inside = RunStore(tmp_path / "runs")
        path = inside.write(stranger)
        assert path.parent == tmp_path / "runs" and path.is_file()
        assert inside.perturbation_path(stranger, name).parent == tmp_path / "runs" / "perturbations"
    assert [one.name for one in tmp_path.iterdir()] == ["runs"]
