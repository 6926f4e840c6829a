"""Runs tests with a line of vbench broken, each time in a fork; torch and pytest are loaded once for all.

``python apply.py FOLDER``: for every line of :data:`mutations.lines.LINES` the test that must miss it, and
FOLDER/N.log with what that printed. Prints the list of exit codes.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path

import pytest
from mutated import mutated
from mutations.lines import LINES, Line


def outcome(line: Line, log: Path) -> int:
    """The exit code of pytest."""
    module, _, name = line.where.partition(":")
    where = import_module(module)
    for part in name.split("."):
        where = getattr(where, part)
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 99
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, 1)
        os.dup2(file, 2)
        with mutated(where, line.old, line.new):
            given = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--assert=plain"]
            code = pytest.main([*given, f"--basetemp={log.with_suffix('')}", line.test])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    # Whatever else tests import.
    import_module("vbench.run.session")
    import_module("vbench.victims.agw")
    print(
        json.dumps([outcome(line, Path(sys.argv[1], f"{number}.log")) for number, line in enumerate(LINES)])
    )
