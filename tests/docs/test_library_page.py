"""docs/library.md: its examples run, and its tables of columns and fields are whole."""

from __future__ import annotations

import re

import pytest
from pages import DOCS

from vbench.api import Result
from vbench.records.record import Record

PAGE = (DOCS / "library.md").read_text()


@pytest.fixture(scope="module")
def ran(names_of):
    """The names that the page's examples leave behind."""
    return names_of(DOCS / "library.md")


def test_the_examples_do_what_they_say(ran):
    assert len(ran["found"]) == 2 and len(ran["mine"]) == 3
    assert ran["mine"].records[0].size["linf_levels"] == pytest.approx(4, abs=1e-4)


def test_ranks_unpacked_by_three_lines_are_the_records_own(ran):
    record = ran["found"].records[0]
    assert ran["one"]["id"] == record.id
    hits = (ran["ranks"] == 1).sum(axis=1) / (ran["ranks"] > 0).sum(axis=1)
    assert hits.to_dict() == pytest.approx({trial.trial: trial.r1 for trial in record.adversarial})
    assert ran["after"]["map"].tolist() == pytest.approx([trial.map for trial in record.adversarial])


def test_an_archive_in_plain_pandas_has_the_records_figures(ran, world):
    rows, flat = ran["rows"], ran["flat"]
    for record in Result.read(world.folder / "archive.jsonl"):
        own = rows[rows["id"] == record.id]
        assert own["map"].mean() == pytest.approx(record.mean("adversarial", "map"))
        (line,) = flat[flat["id"] == record.id].to_dict("records")
        assert line["label"] == record.label and line["config.threat.eps"] == record.config["threat"]["eps"]


def test_every_column_is_explained(ran):
    metrics = r"(r1|r5|r10|r20|map|minp)(_before|_after|_drop|_drop_relative|_before_sd|_after_sd)"
    frames = [ran["found"].to_frame(per) for per in ("run", "trial", "query")]
    columns = {column for frame in frames for column in frame.columns}
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    named = set(re.findall(r"`([^`]+)`", prose))
    assert {one for one in columns if not re.fullmatch(metrics, one)} - named == set()


def test_every_field_of_a_record_is_named_in_order():
    text = PAGE.split("Fields, in the order of the file:")[1]
    named = [name for name in re.findall(r"`(\w+)`", text) if name in Record.model_fields]
    assert named == list(Record.model_fields)
