"""A workbench of a tiny victim, and rows as they are compared."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny import SIZE, TinyVictim

from vbench.core.errors import VbenchError
from vbench.core.threat import ThreatModel
from vbench.data import open_dataset
from vbench.data.synthetic import write_dataset
from vbench.run.bench import Bench
from vbench.run.execute import Run

EIGHT = ThreatModel("8/255")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("isolation") / "data"
    write_dataset("sysu", root, ids=6, seed=3, size=SIZE, test_ids=4, quiet=True)
    found = open_dataset("sysu", root)
    return replace(found, trials=found.trials[:1])


@pytest.fixture(scope="session")
def fresh(dataset, tmp_path_factory):
    """Makes a workbench that nothing was run on."""
    cache = tmp_path_factory.mktemp("cache")

    def make(victim=None):
        return Bench(dataset, (victim or TinyVictim()).eval(), cache, quiet=True)

    return make


@pytest.fixture(scope="session")
def row():
    """The figures of a run to the last bit, or the line that says why there are none."""

    def figures(bench, attack, threat=EIGHT, seed=0, learnt=None):
        run = Run(bench, attack, threat, seed)
        try:
            record, perturbation = replace(run, ignore_gates=True).execute(quiet=True, learnt=learnt)
        except VbenchError as error:
            return str(error)
        # Two attacks that do the same are compared as well, and their configurations name them.
        left_out = {"id", "config", "digest", "created", "cost", "environment", "fit_log"}
        kept = record.model_dump(mode="json", exclude=left_out)
        for member in [*kept["members"], *kept["controls"]]:
            member.pop("cost", None)
        return kept, perturbation.digest if perturbation else None

    return figures
