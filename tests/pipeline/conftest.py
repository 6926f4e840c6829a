"""What tests of the whole pipeline share: a small set, a quickly trained thin AGW, the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import quick as quickly
from filelock import FileLock

from vbench.cli import main
from vbench.data import open_dataset
from vbench.data.synthetic import write_dataset
from vbench.prepare import Choice
from vbench.train import load_train_images, train_victim
from vbench.victims.agw import AGW
from vbench.workbench import Workbench

SIZE = (64, 32)


@dataclass(frozen=True)
class Fixture:
    """Where things are, and a workbench made of them."""

    root: Path
    weights: Path
    cache: Path
    bench: Workbench

    def arguments(self, runs: Path) -> list[str]:
        """Command-line arguments of ``vbench run`` on this fixture."""
        given = {"--dataset": "sysu", "--root": self.root, "--weights": self.weights, "--runs": runs}
        return [str(part) for pair in given.items() for part in pair] + ["--victim", "agw", "--quiet"]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Fixture:
    folder = made_once(tmp_path_factory, "small", _train)
    root, weights = folder / "data", folder / "agw.safetensors"
    choice = Choice("sysu", root, weights=weights)
    bench = choice.workbench("agw", open_dataset("sysu", root), folder / "cache", quiet=True)
    return Fixture(root, weights, folder / "cache", bench)


def _train(folder: Path) -> None:
    """Draw people into ``folder/data`` and train a thin AGW on them."""
    root = write_dataset("sysu", folder / "data", ids=150, seed=3, size=SIZE, test_ids=12, quiet=True)
    dataset = open_dataset("sysu", root)
    victim = AGW(num_classes=150, **{**AGW.THIN, "input_size": SIZE, "width": 0.125})
    images = load_train_images(dataset, SIZE, quiet=True)
    train_victim(victim, dataset, images, seed=0, epochs=10, out=folder / "agw.safetensors", quiet=True)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that ``make`` fills for all processes of this test run; the first that needs it does."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            making = factory.mktemp(name)
            make(making)
            making.rename(folder)
    return folder


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> quickly.Quick:
    """A dozen drawn people in the layout of SYSU-MM01; its victims are not trained."""
    return quickly.make(tmp_path_factory.mktemp("quick"))


@dataclass(frozen=True)
class Done:
    """What a command printed."""

    stdout: str
    stderr: str


@pytest.fixture
def vbench(tmp_path, monkeypatch, capsys):
    """Call the command line in this process: what ``vbench ...`` would do, without its start-up time."""
    monkeypatch.setenv("VBENCH_CACHE", str(tmp_path / "cache"))

    def call(*arguments: object, expect: int = 0) -> Done:
        monkeypatch.setattr(sys, "argv", ["vbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
            sys.exit(0)
        printed = capsys.readouterr()
        assert (stopped.value.code or 0) == expect, printed.err
        assert "Traceback" not in printed.err
        return Done(printed.out, printed.err)

    return call
