"""Few functions lie between a command and the attack that it runs, so that a traceback is soon read."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import pytest

import vbench
import vbench.attacks
import vbench.victims
from vbench.attacks.classification import PGD
from vbench.attacks.uap import UAP
from vbench.cli import main

FOLDERS = [Path(package.__path__[0]) for package in (vbench, vbench.attacks, vbench.victims)]


@pytest.fixture
def frames(monkeypatch):
    """Gives the functions of vbench's own files through which a call goes to a method of an attack."""

    def count(cls, method, call):
        plain, seen = getattr(cls, method), []

        def watched(self, *given):
            stack = [frame for frame in inspect.stack() if set(FOLDERS) & set(Path(frame.filename).parents)]
            seen.append([*(frame.function for frame in reversed(stack)), method])
            return plain(self, *given)

        monkeypatch.setattr(cls, method, watched)
        call()
        return max(seen, key=len)

    return count


def command(quick, runs, attack, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vbench", "run", *quick.arguments(runs), "--attack", attack])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code


def test_from_the_command_line_to_craft(quick, tmp_path, monkeypatch, frames):
    found = frames(PGD, "craft", lambda: command(quick, tmp_path, "pgd[steps=1]", monkeypatch))
    assert found[0] == "main" and len(found) <= 8, found


def test_from_the_command_line_to_learn(quick, tmp_path, monkeypatch, frames):
    spec = "uap[evaluations=12,batch=6]"
    found = frames(UAP, "learn", lambda: command(quick, tmp_path, spec, monkeypatch))
    assert found[0] == "main" and len(found) <= 8, found


def test_from_evaluate_to_craft(quick, frames):
    given = {"dataset": "sysu", "root": quick.root, "weights": quick.weights(), "ignore_gates": True}
    found = frames(PGD, "craft", lambda: vbench.evaluate("agw", "pgd[steps=1]", **given))
    assert found[0] == "evaluate" and len(found) <= 7, found
