"""Each line without which a wrong figure would appear is missed by a test: run in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mutations.apply import VARIABLE
from mutations.lines import LINES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", range(len(LINES)), ids=[line.what for line in LINES])
def test_a_broken_line_turns_a_test_red(number, tmp_path):
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "mutations.apply", "-p", "no:cacheprovider"]
    command += ["-n", "0", f"--basetemp={tmp_path / 'base'}", LINES[number].test]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {VARIABLE: str(number), "PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    # 1: tests ran and some failed; anything else means that the line, or the test, is not there any more.
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
