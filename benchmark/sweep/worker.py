"""What a worker does with a task."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch
from torch import nn

from vbench.attacks.base import Battery, UniversalAttack
from vbench.attacks.build import build_attack, preset_threat
from vbench.attacks.perturbation import Perturbation
from vbench.core.environment import resident_peak
from vbench.core.errors import VbenchError
from vbench.core.files import cache_folder
from vbench.core.isolation import contained, twin
from vbench.core.plugins import reason
from vbench.core.text import one_line
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.data.base import Dataset
from vbench.data.synthetic.embedded import SyntheticSet
from vbench.records.store import RunStore
from vbench.run.bench import Bench
from vbench.run.builtin import thin_weights
from vbench.run.execute import Run
from vbench.run.prepare import Choice
from vbench.run.session import Recorder
from vbench.sweep.engine import (
    Did,
    Do,
    Failed,
    Identity,
    Job,
    Open,
    Opened,
    Outcome,
    Ready,
    Train,
    WriteSet,
    spent,
)
from vbench.sweep.tasks import Data, Group, Model, Task
from vbench.victims.base import example_tensor, frozen
from vbench.victims.build import read_victim
from vbench.victims.embed import BATCH

if TYPE_CHECKING:
    from vbench.records.record import Record


_LONGEST_REASON = 500


def perform(job: Job, shelf: Shelf) -> Outcome:
    """Do a job; whatever goes wrong comes back as one line."""
    try:
        return _perform(job, shelf)
    except VbenchError as error:
        return Failed(one_short_line(error))
    except (Exception, SystemExit) as error:
        # What is no refusal of ours is a defect or a broken device: the log gets all of it.
        traceback.print_exc()
        return Failed(one_short_line(reason(error)), sound=False)


def one_short_line(error: object) -> str:
    """The text of an error without line breaks, at most as long as a table can bear."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


def _perform(job: Job, shelf: Shelf) -> Outcome:
    if isinstance(job, WriteSet | Train):
        _prepare(job)
        return Ready()
    if isinstance(job, Open):
        return Opened({task.key: _identity(shelf, task) for task in job.tasks})
    return _do(job, shelf)


def _prepare(job: WriteSet | Train) -> None:
    model = job.model if isinstance(job, Train) else Model("")
    dataset = choice_of(Group(job.data, model)).open(cache_folder(), quiet=True)
    if isinstance(job, Train):
        size = job.data.size or SyntheticSet().size
        thin_weights(read_victim(model.victim), dataset, cache_folder(), size, quiet=True)


def _identity(shelf: Shelf, task: Task) -> Identity | str:
    from vbench.records.record import config_id

    try:
        run = shelf.run(task)
        return Identity(config_id(run.config()), tuple(run.fits()), estimate(run))
    except VbenchError as error:
        return one_short_line(error)


def _do(job: Do, shelf: Shelf) -> Did:
    run, recorder = shelf.run(job.task), shelf.recorder(job.task.group)
    _take_over(recorder, job.learnt)
    known = recorder.known(run)
    started = time.perf_counter()
    with resident_peak() as peak:
        record = recorder.record(run)
    seconds = time.perf_counter() - started if known is None else spent(record.cost)
    return Did(record.id, seconds, _learnt(run, record, recorder, shelf.store, known is None), peak[0])


def _learnt(run: Run, record: Record, recorder: TaskRecorder, store: RunStore, new: bool) -> dict[str, str]:
    """Where what the run learnt is stored; of a record that was found, if it is all that was learnt for it.

    Two fits of one attack, as a battery may have, share a file, which holds the later one.
    """
    fits = run.fits()
    if new:
        names = {recorder.attack_of(fit): fit for fit in fits}
    else:
        names = {run.attack.name: fits[0]} if len(fits) == 1 and run.attack.universal else {}
    paths = {fit: store.perturbation_path(record, attack) for attack, fit in names.items()}
    return {fit: path.relative_to(store.root).as_posix() for fit, path in paths.items()}


def _take_over(recorder: TaskRecorder, learnt: Mapping[str, str | bytes]) -> None:
    for fit, source in learnt.items():
        if recorder.knows(fit):
            continue
        try:
            recorder.learn(fit, _read(source))
        except VbenchError:
            # A file that is gone or altered costs a fit that could have been saved, no more.
            continue


def _read(source: str | bytes) -> Perturbation:
    if isinstance(source, str):
        return Perturbation.load(Path(source))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "learnt.safetensors"
        path.write_bytes(source)
        return Perturbation.load(path)


_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Start:
    """``log``: the file that takes whatever the worker prints; ``threads``: of torch."""

    runs: Path
    log: Path
    threads: int


def serve(connection: Connection, start: Start) -> None:
    """Say when all is loaded, then answer every job with its outcome, until the end of the connection."""
    # Ctrl-C reaches the whole terminal; the one in charge decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    _print_to(start.log)

    import torch

    torch.set_num_threads(start.threads)
    shelf = Shelf(start.runs)
    connection.send("up")
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {one_line(job.title)}", flush=True)
        connection.send(perform(job, shelf))


def _follow_parent() -> None:
    """A worker whose parent was killed would go on for hours, beside the one that a rerun starts."""
    parent = parent_process()
    while parent is not None and parent.is_alive():
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def _print_to(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    # Through a link it would add to whatever file that names.
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0), 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


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
        self._bench: tuple[Group, Bench] | None = None
        self._source: tuple[Group, Bench] | None = None
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

    def _open(self, group: Group) -> tuple[Bench, Bench | None]:
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


#: What a backward pass holds beside the maps of the forward pass.
_BACKWARD = 1.5


def estimate(run: Run) -> int:
    """Bytes of resident memory: the process as it is, training images, and a batch forward and back.

    The maps are measured on one image. On a GPU they are not in this memory and do not count.
    """
    origin = run.source or run.bench
    total = float(psutil.Process().memory_info().rss)
    if isinstance(run.attack, UniversalAttack | Battery) or "training" in run.attack.knowledge:
        dataset = origin.dataset
        images = len(dataset.train_visible) + len(dataset.train_infrared)
        height, width = origin.victim.input_size
        total += images * height * width * 3
    if example_tensor(origin.victim).device.type == "cpu":
        total += BATCH * map_bytes(origin) * _BACKWARD
    return int(total)


def map_bytes(bench: Bench) -> int:
    """Bytes of all that the victim's layers return for one image.

    Raises :class:`VbenchError` naming the victim when its forward pass fails.
    """
    victim, total = twin(bench.victim), 0

    def count(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal total
        if isinstance(output, torch.Tensor):
            total += output.numel() * output.element_size()

    parameter = example_tensor(victim)
    image = torch.full((1, 3, *victim.input_size), 0.5, device=parameter.device, dtype=parameter.dtype)
    for module in victim.modules():
        if not any(module.children()):
            module.register_forward_hook(count)
    with contained(f"victim '{victim.name}'", seed=0), frozen(victim), torch.no_grad():
        victim(image, Modality.VISIBLE)
    return total
