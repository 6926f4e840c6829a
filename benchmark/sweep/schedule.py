"""Scheduling of a sweep: prepare data and victims, hand runs to workers, summarise the result."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Generic

from vbench.core.progress import Display, say
from vbench.records.spec import RunSpec, Setup
from vbench.records.store import RunStore
from vbench.sweep.check import Inputs
from vbench.sweep.engine import Died, Done, Failed, Job, Outcome, Pool, Prepare, SlotT
from vbench.sweep.read import SuiteFile
from vbench.sweep.state import Ledger, States, failures

if TYPE_CHECKING:
    from vbench.sweep.local import LocalPool
    from vbench.sweep.ray import RayPool

_WAIT_SECONDS = 1.0

#: Memory of a job before any run has told how much it takes, in bytes: mostly torch and other libraries.
_BASE = 1024**3


class Scheduler(Generic[SlotT]):
    """Hands jobs to a pool until none is left; ``memory``: bytes that a run may need, if known."""

    def __init__(
        self, pool: Pool[SlotT], ledger: Ledger, display: Display, retries: int, memory: int | None = None
    ) -> None:
        self._pool, self._ledger, self._display = pool, ledger, display
        self._retries, self._memory = retries, memory
        self._attempts: Counter[Job] = Counter()
        self._waiting: dict[Hashable, list[list[RunSpec]]] = {}
        #: Of a run that a worker does: its group, and the runs of its list that follow.
        self._following: dict[RunSpec, tuple[Hashable, list[RunSpec]]] = {}

    def prepare(self, jobs: Iterable[Prepare]) -> dict[Job, str]:
        """Do jobs that runs depend on; returns those that failed, with the reason."""
        left: list[Job] = list(jobs)
        failed: dict[Job, str] = {}
        while left or self._pool.busy():
            for slot in self._pool.idle():
                if left and self._pool.admits(slot, _BASE):
                    job = left.pop(0)
                    self._attempts[job] += 1
                    self._display.say(job.title)
                    self._pool.start(slot, job, _BASE)
            for slot, job, outcome in self._pool.wait(_WAIT_SECONDS):
                if self._is_retried(job, outcome):
                    left.append(job)
                elif isinstance(outcome, Failed | Died):
                    failed[job] = outcome.reason
                    self._renew(slot, outcome)
        return failed

    def work(self, groups: dict[Hashable, list[list[RunSpec]]]) -> None:
        """Do every run. A worker stays with a group, and does the runs of one list one after the other.

        An idle worker takes a group that no other has, else it helps with the one that has the most left.
        """
        self._waiting = dict(groups)
        while self._waiting or self._pool.busy():
            self._dispatch()
            for slot, job, outcome in self._pool.wait(_WAIT_SECONDS):
                if isinstance(job, RunSpec):
                    self._take(slot, job, outcome)
            self._ledger.heartbeat()

    def _dispatch(self) -> None:
        for slot in self._pool.idle():
            while self._waiting:
                group = self._choose(slot)
                task, *rest = runs = self._waiting[group].pop(0)
                if not self._waiting[group]:
                    del self._waiting[group]
                need = self._memory or self._ledger.expected_memory(task) or _BASE
                if not self._pool.admits(slot, need):
                    self._put_back(group, runs)
                    return
                if self._ledger.runs_elsewhere(task):
                    self._put_back(group, rest)
                    continue
                self._attempts[task] += 1
                self._following[task] = group, rest
                slot.group = group
                self._pool.start(slot, task, need)
                self._ledger.start(task, slot.pid)
                break

    def _choose(self, slot: SlotT) -> Hashable:
        if slot.group in self._waiting:
            return slot.group
        taken = {other.group for other in self._pool.busy()}
        free = (group for group in self._waiting if group not in taken)
        return next(free, None) or max(self._waiting, key=lambda group: len(self._waiting[group]))

    def _put_back(self, group: Hashable, runs: list[RunSpec]) -> None:
        if runs:
            self._waiting[group] = [runs, *self._waiting.get(group, [])]

    def _take(self, slot: SlotT, task: RunSpec, outcome: Outcome) -> None:
        group, rest = self._following.pop(task)
        if self._is_retried(task, outcome):
            self._ledger.lose(task)
            self._put_back(group, [task, *rest])
            return
        self._put_back(group, rest)
        if isinstance(outcome, Done):
            self._ledger.finish(task, outcome)
            if outcome.new:
                self._display.done(task, outcome.seconds)
            else:
                self._display.found(task)
        else:
            self._ledger.fail(task, outcome.reason)
            self._display.failed(task, outcome.reason)
        self._renew(slot, outcome)

    def _is_retried(self, job: Job, outcome: Outcome) -> bool:
        """Whether a job is tried again because its worker died; prints that it is."""
        if not isinstance(outcome, Died) or self._attempts[job] > self._retries:
            return False
        self._display.say(f"{job.title}: {outcome.reason}; trying again")
        return True

    def _renew(self, slot: SlotT, outcome: Outcome) -> None:
        if isinstance(outcome, Failed) and not outcome.sound:
            self._pool.renew(slot)


@dataclass(frozen=True)
class Result:
    """The tasks of a sweep or a shard, by their result; ``elsewhere``: running in another process."""

    tasks: Sequence[RunSpec]
    found: dict[RunSpec, str]
    done: dict[RunSpec, str]
    failed: dict[RunSpec, str]
    elsewhere: Sequence[RunSpec]

    @property
    def complete(self) -> bool:
        """Whether every task has its record."""
        return len(self.found) + len(self.done) == len(self.tasks)


@dataclass(frozen=True)
class Wishes:
    """Options of a sweep. ``only_prepare``: stop before the first task; ``retry_failed``: repeat failures."""

    runs: Path
    retry_failed: bool = True
    only_prepare: bool = False
    quiet: bool = False


def conduct(
    file: SuiteFile,
    every: Sequence[RunSpec],
    mine: Sequence[RunSpec],
    wishes: Wishes,
    pool_for: Callable[[int, Path], Pool[SlotT]],
) -> Result:
    """Do the tasks of ``mine``, this shard, that have no record; ``every``: all tasks of the suite.

    ``pool_for`` makes the engine, given the number of tasks and a folder for logs; it is only called if tasks
    are missing. A task that fails does not stop the others.
    """
    inputs, states = Inputs(), States.of(wishes.runs, file.suite.name)
    ledger = Ledger(states, RunStore(wishes.runs), inputs.identity)
    durations = states.durations(every)
    pending = ledger.sort(mine, wishes.retry_failed)
    if pending:
        pool = pool_for(len(pending), states.folder)
        resources = file.suite.resources
        try:
            states.list_tasks(file.located.path.resolve(), list(every), pool.width)
            with terminable(), Display(pending, pool.width, durations, wishes.quiet) as display:
                scheduler = Scheduler(pool, ledger, display, resources.retries, resources.memory)
                pending = _prepared(scheduler, ledger, display, inputs, pending)
                while pending and not wishes.only_prepare:
                    scheduler.work(inputs.grouped(pending))
                    # Other processes may have ended since, with or without a record for their tasks.
                    pending = ledger.sort(list(ledger.elsewhere), retry_failed=False)
        finally:
            pool.close()
            ledger.release()
    return Result(mine, ledger.found, ledger.done, ledger.failed, list(ledger.elsewhere))


def _prepared(
    scheduler: Scheduler[SlotT], ledger: Ledger, display: Display, inputs: Inputs, tasks: list[RunSpec]
) -> list[RunSpec]:
    """Write synthetic sets and train thin victims, each once; returns the tasks that can be done."""
    blocked: dict[Setup, str] = {}
    tried: set[Prepare] = set()
    groups = dict.fromkeys(task.group for task in tasks)
    while jobs := {
        job: waiting
        for job, waiting in inputs.unprepared(group for group in groups if group not in blocked).items()
        if job not in tried
    }:
        tried |= jobs.keys()
        failed = scheduler.prepare(jobs)
        blocked |= {group: failed[job] for job in jobs if job in failed for group in jobs[job]}
    for task in tasks:
        if task.group in blocked:
            ledger.fail(task, blocked[task.group])
            display.failed(task, blocked[task.group])
    return [task for task in tasks if task.group not in blocked]


@contextmanager
def terminable() -> Iterator[None]:
    """Handle SIGTERM, which batch systems send before they kill a job, like Ctrl-C."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:
        # Signals can only be handled in the main thread.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def summary(result: Result, runs: Path, only_prepared: bool = False) -> str:
    """The text that ``vbench sweep`` prints at its end."""
    missing = len(result.tasks) - len(result.found) - len(result.done) - len(result.failed)
    parts = [
        f"{len(result.tasks)} runs: {len(result.found) + len(result.done)} done",
        f"({len(result.done)} of them now)" if result.done else "",
        f"{len(result.failed)} failed" if result.failed else "",
        f"{len(result.elsewhere)} running in another process" if result.elsewhere else "",
        f"{missing} to do" if only_prepared and missing else "",
    ]
    first, *rest = filter(None, [" ".join(filter(None, parts[:2])), *parts[2:]])
    lines = [", ".join([first, *rest])]
    if only_prepared:
        lines.append("data and thin victims are ready" if not result.failed else "the others are ready")
    if result.failed:
        lines += ["", failures(result.failed), ""]
    if result.found or result.done:
        lines.append(f"records in {runs}; tables with: vbench report --runs {runs} --format markdown")
    return "\n".join(lines)


def local_engine(
    file: SuiteFile, runs: Path, jobs: int | None, quiet: bool = False
) -> Callable[[int, Path], LocalPool]:
    """An engine of local processes, as many as cores, GPUs and the suite's resources allow."""
    from vbench.sweep.local import LocalPool, shares

    def make(tasks: int, folder: Path) -> LocalPool:
        split = shares(file.suite.resources, jobs, file.suite.device, tasks)
        if split.note:
            say(f"note: {split.note}", quiet)
        return LocalPool(split.jobs, split.threads, split.gpus, runs, folder / "logs")

    return make


def ray_engine(file: SuiteFile, runs: Path, address: str | None) -> Callable[[int, Path], RayPool]:
    """An engine on a running Ray cluster; raises :class:`BadInput` if Ray is not installed."""
    from vbench.sweep.ray import RayPool, require_ray

    require_ray()

    def make(tasks: int, folder: Path) -> RayPool:
        known = [record.id for record in RunStore(runs).read_all().records if record.fault() is None]
        return RayPool(address, file.suite.resources, known)

    return make
