"""Every command of the pages is one that vbench takes, as it is printed, up to the start of work."""

from __future__ import annotations

import os
import re
import shlex
import sys
from importlib.util import find_spec

import pytest
from pages import PAGES, ROOT, blocks

from vbench.cli import main
from vbench.cli.examples import LINES
from vbench.sweep.check import check_suite
from vbench.sweep.read import read_suite
from vbench.sweep.tasks import tasks_of

#: Where commands have checked what they were given, and begin to work.
STARTS = (
    "vbench.run.execute.Run.execute",
    "vbench.victims.training.trainer.train_victim",
    "vbench.victims.pretrained.start_from_imagenet",
    "vbench.audit.audit",
    "vbench.sweep.schedule.conduct",
    "vbench.victims.load.convert_checkpoint",
    "vbench.data.synthetic.write_dataset",
)
COMMANDS = [command for page in PAGES for block in blocks(page) for command in block.commands()]
#: Each once, where it stands first; torchrun starts the same command on several devices.
VBENCH = {
    command.words[command.words.index("vbench") :]: command
    for command in reversed(COMMANDS)
    if command.words[0] in ("vbench", "torchrun")
}
SUITES = [
    block
    for page in PAGES
    for block in blocks(page)
    if block.language == "yaml" and not block.commands() and not block.reason
]


class Started(BaseException):
    """Everything that was given is checked; work begins. Nothing that catches errors of runs catches it."""


def _start(*given: object, **options: object) -> None:
    raise Started


@pytest.fixture
def typed(at_home, monkeypatch, capsys):
    """Type a command; it must come to the start of its work, or to its end without an error."""
    for target in STARTS:
        monkeypatch.setattr(target, _start)
    # A cluster is not needed to check what is asked of it.
    monkeypatch.setattr("vbench.sweep.ray.require_ray", lambda: None)

    def call(words: list[str]) -> None:
        at_home.provide(words)
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises((SystemExit, Started)) as ended:
            main()
        assert getattr(ended.value, "code", 0) in (None, 0), capsys.readouterr().err

    return call


def _checked(words: tuple[str, ...]) -> object:
    # All ten splits of RegDB are opened before work begins.
    marks = [pytest.mark.slow] if any("{trial}" in word for word in words) else []
    if any(".onnx" in word for word in words):
        marks.append(pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs onnxruntime"))
    return pytest.param(words, marks=marks, id=str(VBENCH[words]))


@pytest.mark.parametrize("words", [_checked(words) for words in VBENCH])
def test_a_command_comes_to_the_start_of_its_work(words, typed):
    typed([os.path.expandvars(word) for word in words])


@pytest.mark.parametrize("line", sorted({line for lines in LINES.values() for line in lines}))
def test_an_example_of_help_comes_to_the_start_of_its_work(line, typed):
    typed(shlex.split(line))


def test_no_other_program_is_shown_but_these():
    others = {command.words[0] for command in COMMANDS} - {"vbench"}
    assert others <= {"make", "pip", "torchrun", "uv"}


def test_every_target_of_make_exists():
    known = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {command.words[1] for command in COMMANDS if command.words[0] == "make"} <= known


@pytest.mark.parametrize("block", SUITES, ids=lambda block: block.where)
def test_a_suite_is_one_that_vbench_takes(block, at_home):
    path = at_home.folder / "shown.yaml"
    path.write_text(block.text)
    suite = read_suite(path)
    assert tasks_of(suite)
    # Weights and data sets in it are the reader's.
    check_suite(suite, files_are_here=False)
