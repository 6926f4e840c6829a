"""What a worker keeps open between tasks: data, victims with their clean embeddings, learnt perturbations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vbench.attack_spec import build_attack, preset_threat
from vbench.attacks.perturbation import Perturbation
from vbench.data.base import Dataset
from vbench.folders import cache_folder
from vbench.prepare import Choice
from vbench.recorder import Recorder
from vbench.runner import Run
from vbench.store import RunStore
from vbench.sweep.tasks import Data, Group, Task
from vbench.threat import ThreatModel
from vbench.workbench import Workbench


class TaskRecorder(Recorder):
    """A recorder that can be told what others have learnt."""

    def learn(self, fit: str, learnt: Perturbation) -> None:
        """Take ``learnt`` for what the fit with this id would learn, if that is what made it."""
        if learnt.provenance.get("fit") == fit:
            self._learnt.setdefault(fit, learnt)

    def store_in(self, store: RunStore) -> None:
        """Put records elsewhere from now on."""
        self._store = store

    def knows(self, fit: str) -> bool:
        """Whether a fit was done here, or told."""
        return fit in self._learnt

    def attack_of(self, fit: str) -> str:
        """The attack that learnt it."""
        return str(self._learnt[fit].provenance["attack"])


def choice_of(group: Group) -> Choice:
    """The choice that ``vbench run`` would make for a group."""
    data = group.data
    return Choice(
        data.dataset,
        None if data.root is None else Path(data.root),
        data.protocol or None,
        data.layout,
        data.size,
        None if group.victim.weights is None else Path(group.victim.weights),
        group.device,
        group.ignore_gates,
        tuple(model.victim for model in group.surrogates),
        tuple(None if model.weights is None else Path(model.weights) for model in group.surrogates),
        precision=group.precision,
        channels_last=group.channels_last,
    )


class Shelf:
    """Opens groups and makes runs of their tasks; records go to ``runs``.

    One victim and one set of surrogates are open at a time, and a victim stays open while its surrogates
    change.
    """

    def __init__(self, runs: Path) -> None:
        self.store = RunStore(runs)
        self._data: tuple[Data, Dataset] | None = None
        self._bench: tuple[Group, Workbench] | None = None
        self._source: tuple[Group, Workbench] | None = None
        self._recorders: dict[bool, TaskRecorder] = {}

    def store_in(self, runs: Path) -> None:
        """Put records elsewhere from now on; what is open and what was learnt stays."""
        self.store = RunStore(runs)
        for recorder in self._recorders.values():
            recorder.store_in(self.store)

    def recorder(self, group: Group) -> TaskRecorder:
        """What records the tasks of a group."""
        if group.ignore_gates not in self._recorders:
            made = TaskRecorder(self.store, ignore_gates=group.ignore_gates, quiet=True)
            self._recorders[group.ignore_gates] = made
        return self._recorders[group.ignore_gates]

    def run(self, task: Task) -> Run:
        """The run of a task, checked; opens its group if that is not the one that is open."""
        bench, source = self._open(task.group)
        attack = build_attack(task.attack, dict(task.settings))
        run = Run(bench, attack, threat_of(task), task.seed, source=source)
        run.check()
        return run

    def _open(self, group: Group) -> tuple[Workbench, Workbench | None]:
        alone = replace(group, surrogates=())
        if self._bench is None or self._bench[0] != alone:
            self._bench = self._source = None
            dataset = self._dataset(alone)
            made = choice_of(alone).workbench(group.victim.victim, dataset, cache_folder(), True)
            self._bench = alone, made
        bench = self._bench[1]
        if not group.surrogates:
            return bench, None
        if self._source is None or self._source[0] != group:
            self._source = None
            self._source = group, choice_of(group).source(bench, cache_folder(), True)
        return bench, self._source[1]

    def _dataset(self, group: Group) -> Dataset:
        if self._data is None or self._data[0] != group.data:
            self._data = group.data, choice_of(group).open(cache_folder(), True)
        return self._data[1]


def threat_of(task: Task) -> ThreatModel:
    """The threat model of a task: what it says itself, then its attack's preset, then 8/255 and query."""
    usual = preset_threat(task.attack, dict(task.settings))
    eps = task.eps or usual.get("eps", "8/255")
    return ThreatModel(eps, task.norm, task.side or usual.get("side", "query"), task.quantize)
