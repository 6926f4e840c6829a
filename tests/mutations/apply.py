"""A plugin of pytest: breaks the line of vbench that the environment names, before the tests run."""

from __future__ import annotations

import os
from contextlib import ExitStack
from importlib import import_module

from mutated import mutated
from mutations.lines import LINES

#: Holds the line's position in :data:`mutations.lines.LINES`.
VARIABLE = "VBENCH_TESTS_BROKEN_LINE"


def pytest_configure(config) -> None:
    line = LINES[int(os.environ[VARIABLE])]
    module, _, name = line.where.partition(":")
    where = import_module(module)
    for part in name.split("."):
        where = getattr(where, part)
    stack = ExitStack()
    stack.enter_context(mutated(where, line.old, line.new))
    config.add_cleanup(stack.close)
