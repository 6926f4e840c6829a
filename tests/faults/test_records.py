"""Records that are damaged, made by a clock that goes backwards, or written by two processes at once."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import time

import pytest
from faults.conftest import facts, run_arguments

from vbench.records.store import RunStore

NOISE = ("--attack", "noise")


@pytest.fixture
def runs(quick, vbench, tmp_path):
    folder = tmp_path / "runs"
    vbench(*run_arguments(quick, folder, *NOISE, "--attack", "fgsm"))
    return folder


BAD = {
    "empty": b"",
    "truncated": b'{"schema_version": 1, "id"',
    "binary": b"\x00\xff" * 500,
    "list": b"[]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "fieldless": b"{}",
}


def test_bad_records_among_good_ones_are_skipped_and_named(runs, vbench):
    good = facts(runs)
    for name, content in BAD.items():
        (runs / f"agw-{name}-0123456789ab.json").write_bytes(content)
    (runs / "folder.json").mkdir()
    done = vbench("report", "--runs", runs, "--format", "json")
    assert {row["id"] for row in json.loads(done.stdout)} == set(good)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == len(BAD) + 1
    for name in ("folder.json", *(f"agw-{name}-0123456789ab.json" for name in BAD)):
        assert sum(name in line for line in lines) == 1


def test_a_damaged_record_is_made_again(quick, runs, vbench):
    before = facts(runs)
    path = next(runs.glob("*noise*.json"))
    path.write_bytes(path.read_bytes()[:1000])
    vbench(*run_arguments(quick, runs, *NOISE))
    assert facts(runs) == before


def test_a_clock_that_goes_backwards_changes_no_figure(quick, runs, vbench, tmp_path, monkeypatch):
    """Every look at the wall clock is an hour before the one that came before it."""
    now, looks = time.time(), []

    def back():
        looks.append(1)
        return now - 3600 * len(looks)

    class Back(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(back(), tz)

    monkeypatch.setattr(time, "time", back)
    monkeypatch.setattr(datetime, "datetime", Back)
    later = tmp_path / "later"
    vbench(*run_arguments(quick, later, *NOISE, "--attack", "fgsm"))
    vbench(*run_arguments(quick, later, "--attack", "metric_ifgsm[steps=2]"))
    monkeypatch.undo()
    assert looks
    assert facts(runs).items() < facts(later).items()
    records = RunStore(later).read_all().records
    assert [record.label for record in records] == ["metric_ifgsm[steps=2]", "fgsm", "noise"]
    for record in records:
        assert all(value >= 0 for value in record.cost.values())
    done = vbench("report", "--runs", later, "--format", "json")
    assert len(json.loads(done.stdout)) == 3 and done.stderr == ""


WRITER = """
import sys
from pathlib import Path
from vbench.core.files import write_atomically
for number in range(150):
    write_atomically(Path(sys.argv[1]), f"{sys.argv[2]}{number:03d} " * 20_000)
"""


def test_readers_see_whole_records_while_two_processes_write(tmp_path):
    path = tmp_path / "record.json"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), mark]) for mark in "ab"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            words = path.read_text().split()
            assert len(words) == 20_000 and len(set(words)) == 1
            seen.add(words[0][0])
    assert [writer.returncode for writer in writers] == [0, 0] and seen == {"a", "b"}
    assert list(tmp_path.iterdir()) == [path]
