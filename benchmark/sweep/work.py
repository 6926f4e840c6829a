"""What a worker does with a job: the same in a local process and on a Ray cluster."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vbench.errors import VbenchError
from vbench.plugins import reason
from vbench.resident import resident_peak
from vbench.sweep.jobs import Did, Do, Failed, Identity, Job, Open, Opened, Outcome, Ready, Train, WriteSet

if TYPE_CHECKING:
    from vbench.attacks.perturbation import Perturbation
    from vbench.record import Record
    from vbench.runner import Run
    from vbench.store import RunStore
    from vbench.sweep.opened import Shelf, TaskRecorder
    from vbench.sweep.tasks import Task

_LONGEST_REASON = 500


def perform(job: Job, shelf: Shelf) -> Outcome:
    """Do a job; whatever goes wrong comes back as one line."""
    try:
        return _perform(job, shelf)
    except VbenchError as error:
        return Failed(one_line(error))
    except (Exception, SystemExit) as error:
        # What is no refusal of ours is a defect or a broken device: the log gets all of it.
        traceback.print_exc()
        return Failed(one_line(reason(error)), sound=False)


def one_line(error: object) -> str:
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
    from vbench.data.synthetic.embedded import SyntheticSet
    from vbench.defaults import thin_weights
    from vbench.folders import cache_folder
    from vbench.sweep.opened import choice_of
    from vbench.sweep.tasks import Group, Model
    from vbench.victim_spec import read_victim

    model = job.model if isinstance(job, Train) else Model("")
    dataset = choice_of(Group(job.data, model)).open(cache_folder(), quiet=True)
    if isinstance(job, Train):
        size = job.data.size or SyntheticSet().size
        thin_weights(read_victim(model.victim), dataset, cache_folder(), size, quiet=True)


def _identity(shelf: Shelf, task: Task) -> Identity | str:
    from vbench.record import config_id
    from vbench.sweep.need import estimate

    try:
        run = shelf.run(task)
        return Identity(config_id(run.config()), tuple(run.fits()), estimate(run))
    except VbenchError as error:
        return one_line(error)


def _do(job: Do, shelf: Shelf) -> Did:
    run, recorder = shelf.run(job.task), shelf.recorder(job.task.group)
    _take_over(recorder, job.learnt)
    known = recorder.known(run)
    started = time.perf_counter()
    with resident_peak() as peak:
        record = recorder.record(run)
    seconds = time.perf_counter() - started if known is None else spent(record.cost)
    return Did(record.id, seconds, _learnt(run, record, recorder, shelf.store, known is None), peak[0])


def spent(cost: Mapping[str, float]) -> float:
    """Seconds that a record says its run took: fitting and attacking."""
    return cost.get("fit_seconds", 0.0) + cost.get("attack_seconds", 0.0)


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
    from vbench.attacks.perturbation import Perturbation

    if isinstance(source, str):
        return Perturbation.load(Path(source))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "learnt.safetensors"
        path.write_bytes(source)
        return Perturbation.load(path)
