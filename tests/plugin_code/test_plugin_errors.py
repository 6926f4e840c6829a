"""What is wrong with a plugin's file or class is one line with its file and line, and exit code 2."""

from __future__ import annotations

import sys

import pytest
import torch
from pipeline.conftest import quick, vbench
from plugin_code.writing import attack, write

from vbench import cli
from vbench.attacks.registry import attacks
from vbench.core.errors import BadInput
from vbench.data.registry import datasets
from vbench.victims.checkpoint import write_checkpoint
from vbench.victims.registry import victims

__all__ = ["quick", "vbench"]

HEAD = """\
from dataclasses import dataclass
from vbench.attacks import PerImageAttack

"""
SOUND = """\
@dataclass(frozen=True)
class Mine(PerImageAttack):
    name = "mine"
    def craft(self, victim, images, modality, context):
        return images
"""
#: What is written -> the line that is to be mended (0: none), and what is said.
BROKEN = {
    "package": (f"import no_such_package\n{HEAD}{SOUND}", 1, "No module named 'no_such_package'"),
    "package-inside": (
        f"{HEAD}import numpy.no_such_part\n{SOUND}",
        4,
        "No module named 'numpy.no_such_part'",
    ),
    "name-of-package": (f"{HEAD}from numpy import no_such_name\n{SOUND}", 4, "no_such_name"),
    "syntax": (f"{HEAD}def broken(:\n{SOUND}", 4, "fix that line"),
    "indentation": (f"{HEAD}if True:\n{SOUND}", 5, "fix that line"),
    "null": (f"{HEAD}a = 1\0\n{SOUND}", 0, "null bytes"),
    "undefined": (f"{HEAD}undefined + 1\n{SOUND}", 4, "NameError"),
    "raises": (f"{HEAD}raise ValueError('first\\nsecond')\n{SOUND}", 4, "ValueError: first second"),
    "exit": (f"{HEAD}import sys\nsys.exit(0)\n{SOUND}", 5, "it ends Python while it is imported"),
    "exit-text": (f"{HEAD}import sys\nsys.exit('over')\n{SOUND}", 5, "it ends Python"),
    "own-error": (f"{HEAD}class E(BaseException): pass\nraise E('odd')\n{SOUND}", 5, "E: odd"),
    "no-attribute": (HEAD, 0, "has no 'Mine'"),
    "number": (f"{HEAD}Mine = 5\n", 0, "is a int, not a class"),
    "function": (f"{HEAD}def Mine():\n    pass\n", 0, "is a function, not a class"),
    "object": (f"{HEAD}{SOUND}Mine = Mine()\n", 0, "is a Mine, not a class"),
    "other-class": (f"{HEAD}class Mine:\n    pass\n", 0, "is not a subclass of"),
    "no-name": (HEAD + SOUND.replace("name =", "called ="), 4, "has no name"),
    "name-is-none": (HEAD + SOUND.replace('"mine"', "None"), 4, "has no name"),
    "name-cannot-be-typed": (HEAD + SOUND.replace('"mine"', '"my attack"'), 4, "cannot be typed"),
    "name-with-escape": (HEAD + SOUND.replace('"mine"', '"a\\x1b[2J"'), 4, "cannot be typed"),
    "abstract": (HEAD + SOUND.replace("craft", "make"), 4, "lacks craft"),
    "not-frozen": (HEAD + SOUND.replace("(frozen=True)", ""), 4, "@dataclass(frozen=True)"),
    "constructor-fails": (
        f"{HEAD}{SOUND}    def __post_init__(self):\n        1 / 0\n",
        10,
        "ZeroDivisionError",
    ),
}


@pytest.fixture
def refused(vbench):
    """Call a command that must be refused in one line with exit code 2; returns the line."""

    def call(*arguments):
        (line,) = vbench(*arguments, expect=2).stderr.splitlines()
        assert line.startswith("vbench: ") and line.isprintable()
        return line

    return call


@pytest.fixture
def run(refused, quick, tmp_path):
    """The line with which ``vbench run`` refuses an attack."""
    data = ("--dataset", "sysu", "--root", quick.root, "--weights", quick.weights())

    def call(spec, *more):
        return refused("run", "--victim", "agw", *data, "--attack", spec, "--runs", tmp_path / "runs", *more)

    return call


@pytest.mark.parametrize("name", BROKEN)
def test_an_attack_that_cannot_be_used(run, tmp_path, name):
    text, line, said = BROKEN[name]
    spec = write(tmp_path, "mine.py", text)
    message = run(spec)
    assert said in message and "mine.py" in message
    assert f"{tmp_path / 'mine.py'}, line {line}:" in message.replace(")", "") or not line


def test_the_line_is_that_of_the_helper_that_fails(run, tmp_path):
    write(tmp_path, "helper.py", "\n1 / 0\n")
    assert f"{tmp_path / 'helper.py'}, line 2: ZeroDivisionError" in run(
        attack(tmp_path, imports="import helper")
    )


VICTIM = """\
from vbench.victims.base import Victim

class Mine(Victim):
    name, summary, paper, stages = "mine", "", "", ()
    def forward(self, images, modality, edits=None):
        raise NotImplementedError
"""
VICTIMS = {
    "package": (f"import no_such_package\n{VICTIM}", "line 1: ModuleNotFoundError"),
    "abstract": (VICTIM.replace("forward", "forwards"), "lacks forward"),
    "no-name": (VICTIM.replace('"mine"', "5"), "has no name"),
    "taken": (VICTIM.replace('"mine"', '"agw"'), "'agw' is vbench's own"),
    "taken-in-capitals": (VICTIM.replace('"mine"', '"AGW"'), "looks like 'agw', which is vbench's own"),
}


@pytest.mark.parametrize("name", VICTIMS)
def test_a_victim_that_cannot_be_used(refused, quick, tmp_path, name):
    text, said = VICTIMS[name]
    spec = write(tmp_path, "mine.py", text)
    data = ("--dataset", "sysu", "--root", quick.root, "--weights", quick.weights(), "--attack", "noise")
    line = refused("run", "--victim", spec, *data, "--ignore-gates", "--runs", tmp_path / "runs")
    assert said in line and "mine.py" in line


def test_a_victim_whose_constructor_fails(refused, quick, tmp_path):
    spec = write(tmp_path, "mine.py", f"{VICTIM}    def __init__(self):\n        1 / 0\n")
    weights = tmp_path / "mine.safetensors"
    write_checkpoint(weights, {"weight": torch.zeros(1)}, {"victim": "mine", "options": {}, "split": "sysu"})
    data = ("--dataset", "sysu", "--root", quick.root, "--weights", weights, "--attack", "noise")
    line = refused("run", "--victim", spec, *data, "--runs", tmp_path / "runs")
    assert f"{tmp_path / 'mine.py'}, line 8: ZeroDivisionError" in line


def test_a_setting_without_a_value_of_its_own_is_asked_for(run, tmp_path):
    line = run(write(tmp_path, "mine.py", f"{HEAD}{SOUND}    amount: float\n"))
    assert "mine needs 'amount'; give it as in mine[amount=...]" in line


@pytest.mark.parametrize("name", ["noise", "NOISE", "n0ise", "no_ise", "pgd", "PGD", "all", "torchattacks"])
def test_an_attack_may_not_have_a_name_of_vbench_s(run, tmp_path, name):
    line = run(write(tmp_path, "mine.py", HEAD + SOUND.replace('"mine"', f'"{name}"')))
    assert "vbench's own; give the attack another name" in line and f"'{name}'" in line and "mine.py" in line


@pytest.mark.parametrize("registry", [attacks, victims, datasets], ids=lambda one: one.kind)
@pytest.mark.parametrize("text", ["import no_such_package\n", "def (:\n", "raise SystemExit\n", "Mine = 5\n"])
def test_every_kind_is_refused_alike(registry, tmp_path, text):
    with pytest.raises(BadInput) as caught:
        registry.load(write(tmp_path, "mine.py", text))
    assert "mine.py" in str(caught.value) and str(caught.value).isprintable()


def test_a_keyboard_interrupt_stays_one(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        attacks.load(write(tmp_path, "mine.py", "raise KeyboardInterrupt\n"))


def test_what_failed_can_be_mended_and_used(tmp_path):
    with pytest.raises(BadInput):
        attacks.load(write(tmp_path, "mine.py", "import no_such_package\n"))
    assert attacks.load(write(tmp_path, "mine.py", HEAD + SOUND)).name == "mine"


def test_a_class_may_stand_inside_another(tmp_path):
    inner = "".join(f"    {line}\n" for line in SOUND.splitlines())
    spec = write(tmp_path, "mine.py", f"{HEAD}class Outer:\n{inner}", "Outer.Mine")
    assert attacks.load(spec).name == "mine"


def test_register_wants_the_name_of_the_class(tmp_path):
    cls = attacks.load(write(tmp_path, "mine.py", HEAD + SOUND))
    with pytest.raises(BadInput) as caught:
        attacks.register("yours")(cls)
    assert "yours" in str(caught.value) and "mine" in str(caught.value)
    assert "yours" not in attacks.names()


@pytest.mark.parametrize("name", ["noise", "NOISE", "my attack", "all"])
def test_register_refuses_names_that_a_file_may_not_have(tmp_path, name):
    cls = attacks.load(write(tmp_path, "mine.py", HEAD + SOUND))
    with pytest.raises(BadInput):
        attacks.register(name)(type("Own", (cls,), {"name": name}))
    assert attacks.names().count(name) == (name == "noise")


def stop(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["vbench", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code, capsys.readouterr().err


@pytest.mark.parametrize("place", ["before", "after", "last", "variable"])
def test_debug_shows_the_traceback(tmp_path, monkeypatch, capsys, place):
    spec = write(tmp_path, "mine.py", f"{HEAD}1 / 0\n")
    words = {
        "before": ("--debug", "describe", "attack", spec),
        "after": ("describe", "attack", "--debug", spec),
        "last": ("describe", "attack", spec, "--debug"),
        "variable": ("describe", "attack", spec),
    }[place]
    monkeypatch.setenv("VBENCH_DEBUG", str(int(place == "variable")))
    code, shown = stop(monkeypatch, capsys, *words)
    assert code == 2 and "Traceback" in shown
    assert f'File "{tmp_path / "mine.py"}", line 4' in shown and shown.splitlines()[-1].startswith("vbench: ")


@pytest.mark.parametrize("value", [None, "", "0"])
def test_without_debug_there_is_one_line(tmp_path, monkeypatch, capsys, value):
    monkeypatch.delenv("VBENCH_DEBUG", raising=False)
    if value is not None:
        monkeypatch.setenv("VBENCH_DEBUG", value)
    code, shown = stop(
        monkeypatch, capsys, "describe", "attack", write(tmp_path, "mine.py", f"{HEAD}1 / 0\n")
    )
    (line,) = shown.splitlines()
    assert code == 2 and f"{tmp_path / 'mine.py'}, line 4: ZeroDivisionError" in line and "--debug" in line
