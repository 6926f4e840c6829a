"""What tests of hostile input share: the command line, and what must never come out of it."""

from __future__ import annotations

import pytest
from payloads import unseen
from pipeline.conftest import quick
from pipeline.conftest import vbench as plain_vbench

__all__ = ["plain_vbench", "quick"]


@pytest.fixture
def vbench(plain_vbench):
    """The command line; whatever it prints, a terminal shows it as it is."""

    def call(*arguments, expect=0):
        done = plain_vbench(*arguments, expect=expect)
        assert unseen(done.stdout) == unseen(done.stderr) == set()
        return done

    return call


@pytest.fixture
def refused(vbench):
    """Call a command that must be refused in one line with exit code 2; returns the line."""

    def call(*arguments):
        (line,) = vbench(*arguments, expect=2).stderr.splitlines()
        assert line.startswith("vbench: ")
        return line

    return call
