"""How deep the command report calls its writers, counted in frames of vbench's own files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from page_records import study

import vbench
import vbench.reports
from vbench.cli import main
from vbench.records.store import RunStore

OWN = tuple(str(Path(package.__file__).parent) for package in (vbench, vbench.reports))

#: The functions that turn tables into text, by format.
WRITERS = {
    "markdown": "vbench.reports.table._markdown",
    "plain": "vbench.reports.table._plain",
    "latex": "vbench.reports.table._latex_one",
    "csv": "vbench.reports.frame.to_csv",
    "json": "vbench.reports.frame.to_json",
    "jsonl": "vbench.records.store.to_archive",
    "html": "vbench.reports.page.document.document",
}


def depths(monkeypatch, arguments, writer):
    """Number of own frames at each call of a function."""
    found = []

    def watch(frame, event, _):
        name = f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"
        if event == "call" and name == writer:
            files = []
            while frame is not None:
                files.append(frame.f_code.co_filename)
                frame = frame.f_back
            found.append(sum(file.startswith(OWN) for file in files))

    monkeypatch.setattr(sys, "argv", ["vbench", *arguments])
    former = sys.getprofile()
    sys.setprofile(watch)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.setprofile(former)
    assert ended.value.code == 0
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for record in study():
        RunStore(folder).write(record)
    return folder


@pytest.mark.parametrize("style", WRITERS)
def test_a_report_reaches_its_writer_in_six_frames(style, runs, monkeypatch):
    more = ["--no-figures", "--out", "-"] if style == "html" else []
    found = depths(monkeypatch, ["report", "--runs", str(runs), "--format", style, *more], WRITERS[style])
    assert found and max(found) <= 6


@pytest.mark.parametrize("what", [["--compare", "r1"], ["--published"], ["--versus", "pgd"]])
def test_so_does_every_kind_of_report(what, runs, monkeypatch):
    for style in ("latex", "csv"):
        arguments = ["report", "--runs", str(runs), "--format", style, *what]
        found = depths(monkeypatch, arguments, WRITERS[style])
        assert found and max(found) <= 6
