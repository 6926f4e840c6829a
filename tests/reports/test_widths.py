"""Tables fit the terminal, lose no digit, and are the same in every pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tables import record

from vbench.records.store import RunStore
from vbench.reports.table import Column, simple, write
from vbench.reports.tables import report, report_of

LONG = "fsam_uap[level=feature,stages=all,modules=joint,keep_weight=0.0]"


def on_terminal(columns: int, *words: str) -> str:
    """The result that a command prints on a terminal of so many columns."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [sys.executable, "-c", "from vbench.cli import app; app()", *words]
    with subprocess.Popen(command, stdout=side, stderr=subprocess.DEVNULL, env=variables) as run:
        os.close(side)
        found = b""
        while part := _read(main):
            found += part
    assert run.returncode == 0, found
    return found.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # how Linux ends a terminal
        return b""


def of_two_seeds() -> list:
    return [record(name, after, seed) for name in (LONG, "pgd") for seed, after in enumerate((0.3, 0.5))]


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_no_table_is_wider_than_the_terminal_or_a_hundred_columns(columns, tmp_path):
    for one in of_two_seeds():
        RunStore(tmp_path).write(one)
    text = on_terminal(columns, "report", "--runs", str(tmp_path))
    assert max(map(len, text.splitlines())) <= min(columns, 100)
    assert text.count("40.0 ± 14.1") == 2 and "keep_weight=0.0]" in text
    assert ("No room for" in text) == (columns == 80)


def test_a_pipe_has_one_width_whatever_the_terminal(monkeypatch):
    wide = report(of_two_seeds(), "plain")
    monkeypatch.setenv("COLUMNS", "60")
    assert report(of_two_seeds(), "plain") == wide and max(map(len, wide.splitlines())) <= 100


def test_the_clean_row_stands_once_above_its_attacks():
    text = report([record("pgd", 0.4), record("uap", 0.2)], "plain")
    rows = [re.split(r"  +", line.strip()) for line in text.splitlines()[4:7]]
    assert [row[:3] for row in rows] == [
        ["agw", "(clean)", "80.0"],
        ["pgd", "40.0", "90.0"],
        ["uap", "20.0", "90.0"],
    ]


def test_all_columns_are_as_wide_as_they_are():
    assert max(map(len, report_of(of_two_seeds(), "plain").splitlines())) > 100


WORDS = st.lists(st.text("ab,[", min_size=1, max_size=30), min_size=1, max_size=4).map(" ".join)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(WORDS, WORDS, st.integers(0, 10**9)), min_size=1, max_size=4))
def test_what_is_wrapped_keeps_every_character(lines):
    text = write([simple("", ["one", "other", Column("number", True)], lines)], "plain")
    assert max(map(len, text.splitlines())) <= 100
    body = "".join(text.splitlines()[2:])
    for letter in "ab,[":
        assert body.count(letter) == sum(str(line).count(letter) for line in lines for line in line)
    assert all(str(number) in text for _, _, number in lines)


@pytest.mark.parametrize("columns", [60, 70])
def test_a_narrow_terminal_breaks_no_number(columns, tmp_path):
    for one in of_two_seeds():
        RunStore(tmp_path).write(one)
    text = on_terminal(columns, "report", "--runs", str(tmp_path))
    assert max(map(len, text.splitlines())) <= columns and text.count("40.0 ± 14.1") == 2


def test_many_columns_of_numbers_are_rather_too_wide_than_broken():
    columns = ["attack", *(Column(f"v{number}", True) for number in range(30))]
    text = write([simple("", columns, [["uap", *["31.25 ± 1.0"] * 30]])], "plain")
    assert text.count("31.25") == 30 and text.count("1.0") == 30
