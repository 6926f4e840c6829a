"""Runs of a tiny victim that keep embeddings and images, for tests of what is kept and of its figures."""

from __future__ import annotations

from pathlib import Path

from tiny import SIZE, TinyVictim

from vbench.attacks.base import Attack
from vbench.attacks.build import build_attack
from vbench.core.threat import ThreatModel
from vbench.data import open_dataset
from vbench.data.base import Dataset
from vbench.data.synthetic import write_dataset
from vbench.records.files import KEEPABLE
from vbench.records.record import Record
from vbench.records.store import RunStore
from vbench.run.bench import Bench
from vbench.run.execute import Run
from vbench.run.keep import Keeper


def tiny_dataset(root: Path, layout: str = "sysu") -> Dataset:
    """A synthetic set of 8 training and 8 test identities."""
    write_dataset(layout, root, ids=8, seed=3, size=SIZE, test_ids=8, quiet=True)
    return open_dataset(layout, root)


def tiny_bench(dataset: Dataset, seed: int = 0) -> Bench:
    """An untrained tiny victim on it."""
    return Bench(dataset, TinyVictim(seed).eval(), None, quiet=True)


def kept_run(
    bench: Bench, attack: Attack | str, runs: Path, side: str = "query", eps: str = "16/255", **more
) -> Record:
    """Do a run that keeps all there is, and store record and files as ``vbench run --keep`` does."""
    built = build_attack(attack) if isinstance(attack, str) else attack
    keeper = Keeper(frozenset(KEEPABLE))
    run = Run(bench, built, ThreatModel(eps, side=side), ignore_gates=True, **more)
    record, learnt = run.execute(quiet=True, keeper=keeper)
    store = RunStore(runs)
    if learnt is not None:
        learnt.save(store.perturbation_path(record, built.name))
    keeper.write(runs, record)
    store.write(record)
    return record
