"""The format of ``vbench report --out``: what the file is called says it, or --format does."""

from __future__ import annotations

import pytest
from fabricated import record

from vbench.records.store import RunStore


@pytest.mark.parametrize(
    ("name", "starts"),
    [
        ("a.txt", "SYNTHETIC sysu"),
        ("a.md", "**SYNTHETIC"),
        ("a.HTML", "<!doctype html>"),
        ("a.csv", "id,victim,"),
        ("a.json", "["),
        ("a.tex", "% \\usepackage"),
        ("a.jsonl", '{"'),
    ],
)
def test_a_file_has_the_format_that_its_ending_says(vbench, tmp_path, name, starts):
    RunStore(tmp_path / "runs").write(record())
    vbench("report", "--runs", tmp_path / "runs", "--no-figures", "--out", tmp_path / name)
    assert (tmp_path / name).read_text().startswith(starts)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--out a.docx", "--out a.docx does not end in .txt, .md, .html, .csv, .json, .tex or .jsonl;"),
        ("--out a.csv --format html", "--out a.csv does not end in .html;"),
        ("--format cvs", "unknown format 'cvs'; did you mean 'csv'"),
    ],
)
def test_a_file_whose_format_is_not_clear_is_refused_before_work_begins(vbench, tmp_path, arguments, said):
    done = vbench("report", "--runs", tmp_path / "none", *arguments.split(), expect=2)
    assert said in done.stderr and len(done.stderr.strip().splitlines()) == 1
