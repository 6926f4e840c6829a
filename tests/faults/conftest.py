"""What tests of faults share: a small set, the command line, and processes that something happens to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pipeline.conftest import quick, vbench
from quick import Quick

from vbench.data.synthetic import write_dataset
from vbench.records.store import RunStore

__all__ = ["quick", "vbench"]

#: What differs between two runs of one configuration: when, where and how fast.
_PASSING = {"created", "cost", "environment", "digest"}


@dataclass(frozen=True)
class Ended:
    """How a process ended; ``printed``: both of its streams."""

    code: int
    seconds: float
    printed: str

    @property
    def line(self) -> str:
        """The one line that a refused command prints."""
        (line,) = self.printed.strip().splitlines()
        assert line.startswith("vbench: ")
        return line


@dataclass(frozen=True)
class Forked:
    """Calls ``vbench`` in a process of its own."""

    process: subprocess.Popen[str]
    log: Path

    def __call__(self, *arguments: object, **befalls: Any) -> Ended:
        job = {"arguments": [str(one) for one in arguments], "log": str(self.log), **befalls}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        printed = self.log.read_text()
        assert "Traceback" not in printed, printed
        return Ended(answer["code"], answer["seconds"], printed)


@pytest.fixture(scope="session")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forked]:
    folder = tmp_path_factory.mktemp("forked")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "VBENCH_CACHE": str(folder / "cache")}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("forker.py"))],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield Forked(process, folder / "log")
        process.stdin.close()


def run_arguments(quick: Quick, runs: Path, *more: object, root: Path | None = None) -> list[str]:
    """Arguments of ``vbench run`` on the small set, or on a copy of it in ``root``."""
    given = ["run", "--victim", "agw", "--weights", quick.weights(), "--dataset", quick.layout]
    given += ["--root", root or quick.root, "--runs", runs, "--ignore-gates", "--quiet", *more]
    return [str(one) for one in given]


def facts(runs: Path) -> dict[str, dict[str, Any]]:
    """What records say that must not depend on what happened on the way; none of them is damaged."""
    contents = RunStore(runs).read_all()
    assert not contents.broken
    found = {}
    for record in contents.records:
        found[record.id] = record.model_dump(mode="json", exclude=_PASSING)
        found[record.id]["fit_log"].pop("cost", None)
    return found


def stored(folder: Path) -> list[str]:
    """Names of all files in a folder and below it, locks aside."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    )


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many people in the layout of SYSU-MM01 as a batch of training shows."""
    folder = tmp_path_factory.mktemp("people") / "sysu"
    return write_dataset("sysu", folder, 16, 3, (32, 16), test_ids=2, quiet=True)


def train_arguments(people: Path, out: Path, epochs: int = 3) -> list[object]:
    """Arguments of ``vbench train`` on them."""
    given = ["train", "--dataset", "sysu", "--root", people, "--size", "32x16", "--epochs", epochs]
    return [*given, "--validation", 0, "--out", out, "--quiet", "--device", "cpu"]
