"""What tests of the whole pipeline share: a small set, a trained thin AGW, the command line."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import quick as quickly
from opening import opener

from vbench.cli import main
from vbench.data import open_dataset
from vbench.data.synthetic import write_dataset
from vbench.run.bench import Bench

GATE = Path(__file__).parents[1] / "gate"
SIZE = (48, 24)


@dataclass(frozen=True)
class Fixture:
    """Where things are, and a workbench made of them."""

    root: Path
    weights: Path
    cache: Path
    bench: Bench

    def arguments(self, runs: Path) -> list[str]:
        """Command-line arguments of ``vbench run`` on this fixture."""
        given = {"--dataset": "sysu", "--root": self.root, "--weights": self.weights, "--runs": runs}
        return [str(part) for pair in given.items() for part in pair] + ["--victim", "agw", "--quiet"]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Fixture:
    """The gate's AGW and the people it was trained on: the same on every processor, and in no time."""
    folder = tmp_path_factory.mktemp("small")
    root = write_dataset("sysu", folder / "data", ids=150, seed=3, size=SIZE, test_ids=12, quiet=True)
    weights = shutil.copy(GATE / "agw.safetensors", folder)
    made = opener("sysu", root, weights=weights)
    bench = made.bench(open_dataset("sysu", root), folder / "cache", quiet=True)
    return Fixture(root, weights, folder / "cache", bench)


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
