"""What tests of faults share: a small set, the command line, and what they compare."""

from __future__ import annotations

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


def run_arguments(quick: Quick, runs: Path, *more: object, root: Path | None = None) -> list[str]:
    """The command of a run on the small set, or on a copy of it in ``root``."""
    return ["run", *quick.arguments(runs, root), *map(str, more)]


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
