"""Each line without which a wrong figure would appear is missed by a test: run in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mutations.lines import LINES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Of every line, the exit code of its test and what was printed."""
    folder = tmp_path_factory.mktemp("broken")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(ROOT / "tests")
    command = [sys.executable, "-m", "mutations.apply", folder]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return [
        (code, (folder / f"{number}.log").read_text()) for number, code in enumerate(json.loads(done.stdout))
    ]


@pytest.mark.parametrize("number", range(len(LINES)), ids=[line.what for line in LINES])
def test_a_broken_line_turns_a_test_red(number, outcomes):
    code, printed = outcomes[number]
    # 1: tests ran and some failed; anything else means that the line, or the test, is not there any more.
    assert code == 1, printed[-4000:]
