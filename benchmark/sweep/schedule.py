"""Scheduling of a sweep: prepare data and victims, hand tasks to workers, summarise the result."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Generic, TypeVar

from vbench.core.progress import Display, say
from vbench.data.synthetic.embedded import SyntheticSet
from vbench.records.spec import RunSpec, Setup
from vbench.records.store import RunStore
from vbench.reports.table import simple, write
from vbench.sweep.engine import (
    Did,
    Died,
    Do,
    Failed,
    Identity,
    Job,
    Open,
    Opened,
    Outcome,
    Pool,
    SlotT,
    Train,
    WriteSet,
)
from vbench.sweep.read import SuiteFile
from vbench.sweep.state import Ledger, States
from vbench.sweep.tasks import Durations

if TYPE_CHECKING:
    from vbench.sweep.identity import Identities
    from vbench.sweep.local import LocalPool
    from vbench.sweep.ray import RayPool

Prepared = TypeVar("Prepared", WriteSet, Train)

_WAIT_SECONDS = 1.0

#: Memory of a worker whose victim is not known yet, in bytes: mostly torch and other libraries.
_BASE = 1024**3


class Scheduler(Generic[SlotT]):
    """Hands jobs to a pool until none is left; ``memory``: bytes that a task may need, if known."""

    def __init__(
        self, pool: Pool[SlotT], ledger: Ledger, display: Display, retries: int, memory: int | None = None
    ) -> None:
        self._pool, self._ledger, self._display = pool, ledger, display
        self._retries, self._memory = retries, memory
        self._attempts: Counter[Job | RunSpec | Setup] = Counter()
        self._unopened: dict[Setup, list[RunSpec]] = {}
        self._ready: dict[Setup, list[RunSpec]] = {}
        self._identities: dict[RunSpec, Identity] = {}

    def prepare(self, jobs: Iterable[Prepared]) -> dict[Prepared, str]:
        """Do jobs that tasks depend on; returns those that failed, with the reason."""
        left = list(jobs)
        prepared: dict[Job, Prepared] = {job: job for job in left}
        failed: dict[Prepared, str] = {}
        while left or self._pool.busy():
            for slot in self._pool.idle():
                if left and self._pool.admits(slot, _BASE):
                    job = left.pop(0)
                    self._attempts[job] += 1
                    self._display.say(job.title)
                    self._pool.start(slot, job, _BASE)
            for slot, ended, outcome in self._pool.wait(_WAIT_SECONDS):
                job = prepared[ended]
                if isinstance(outcome, Died) and self._retries_left(job, outcome):
                    left.append(job)
                elif isinstance(outcome, Failed | Died):
                    failed[job] = outcome.reason
                    self._renew(slot, outcome)
        return failed

    def work(self, tasks: Sequence[RunSpec]) -> None:
        """Open every group and do every task."""
        for task in tasks:
            self._unopened.setdefault(task.group, []).append(task)
        while self._unopened or any(self._ready.values()) or self._pool.busy():
            self._dispatch()
            for slot, job, outcome in self._pool.wait(_WAIT_SECONDS):
                self._take(slot, job, outcome)
            self._ledger.heartbeat()

    def _dispatch(self) -> None:
        for slot in self._pool.idle():
            for job in self._choices(slot):
                need = self._need(job)
                if not self._pool.admits(slot, need):
                    return
                if self._begin(slot, job, need):
                    break
            else:
                return

    def _choices(self, slot: SlotT) -> Iterator[Open | Do]:
        """Jobs for a slot in order of preference: of its group, of groups not open yet, of other groups."""
        if slot.opened is not None:
            yield from self._of_group(slot.opened)
        yield from (Open(group, tuple(tasks)) for group, tasks in list(self._unopened.items()))
        for group in sorted(self._ready, key=lambda group: -len(self._ready[group])):
            yield from self._of_group(group)

    def _of_group(self, group: Setup) -> Iterator[Do]:
        jobs = [slot.job for slot in self._pool.busy() if isinstance(slot.job, Do)]
        running = [self._identities[job.task] for job in jobs]
        learning = {fit for identity in running for fit in identity.fits} - self._ledger.learnt.keys()
        records = {identity.record for identity in running}
        for task in list(self._ready.get(group, ())):
            identity = self._identities[task]
            if identity.record not in records and learning.isdisjoint(identity.fits):
                yield Do(task, self._known_fits(identity))

    def _known_fits(self, identity: Identity) -> dict[str, str | bytes]:
        known = {fit: self._ledger.learnt[fit] for fit in identity.fits if fit in self._ledger.learnt}
        return {fit: path.read_bytes() if self._pool.remote else str(path) for fit, path in known.items()}

    def _begin(self, slot: SlotT, job: Open | Do, need: int) -> bool:
        """Start a job; False if another process has done its task or is running it."""
        if isinstance(job, Open):
            del self._unopened[job.group]
            self._attempts[job.group] += 1
            self._pool.start(slot, job, need)
            return True
        self._ready[job.task.group].remove(job.task)
        record = self._identities[job.task].record
        if self._ledger.taken(job.task, record):
            self._settle(job.task)
            return False
        self._attempts[job.task] += 1
        self._pool.start(slot, job, need)
        self._ledger.start(job.task, record, slot.pid, self._attempts[job.task])
        return True

    def _need(self, job: Job) -> int:
        if self._memory is not None or not isinstance(job, Do):
            return self._memory or _BASE
        return self._ledger.memory.get(job.task.kind) or self._identities[job.task].memory

    def _take(self, slot: SlotT, job: Job, outcome: Outcome) -> None:
        if isinstance(outcome, Died) and self._retries_left(job, outcome):
            self._put_back(job)
            return
        if isinstance(job, Open) and isinstance(outcome, Opened | Failed | Died):
            self._opened(job, outcome)
        elif isinstance(job, Do) and isinstance(outcome, Did):
            self._ledger.finish(job.task, outcome)
            self._display.done(job.task, outcome.seconds)
        elif isinstance(job, Do) and isinstance(outcome, Failed | Died):
            self._fail(job.task, outcome.reason)
        self._renew(slot, outcome)

    def _put_back(self, job: Job) -> None:
        if isinstance(job, Do):
            group = job.task.group
            self._ready[group] = [job.task, *self._ready.get(group, [])]
            self._ledger.lose(job.task)
        elif isinstance(job, Open):
            self._unopened[job.group] = [*job.tasks, *self._unopened.get(job.group, [])]

    def _opened(self, job: Open, outcome: Opened | Failed | Died) -> None:
        for task in job.tasks:
            found = outcome.identities[task.key] if isinstance(outcome, Opened) else outcome.reason
            if isinstance(found, str):
                self._fail(task, found)
                continue
            self._identities[task] = found
            if self._ledger.taken(task, found.record):
                self._settle(task)
            else:
                self._ready.setdefault(job.group, []).append(task)

    def _settle(self, task: RunSpec) -> None:
        if task in self._ledger.found:
            self._display.found(task)

    def _fail(self, task: RunSpec, reason: str) -> None:
        self._ledger.fail(task, reason)
        self._display.failed(task, reason)

    def _retries_left(self, job: Job, outcome: Died) -> bool:
        """Whether a job whose worker died is tried again; prints that it is."""
        counted = job.task if isinstance(job, Do) else job.group if isinstance(job, Open) else job
        if outcome.final or self._attempts[counted] > self._retries:
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
    # Imports torch, which vbench status does not need.
    from vbench.sweep.identity import Identities

    identities = Identities()
    states = States.of(wishes.runs, file.suite.name)
    ledger = Ledger(states, RunStore(wishes.runs), identities.of)
    durations = known_durations(states, every)
    pending = ledger.sort(mine, wishes.retry_failed)
    if pending:
        pool = pool_for(len(pending), states.folder)
        resources = file.suite.resources
        try:
            states.list_tasks(file.located.path.resolve(), list(every), pool.width)
            with terminable(), Display(pending, pool.width, durations, wishes.quiet) as display:
                scheduler = Scheduler(pool, ledger, display, resources.retries, resources.memory)
                pending = _prepared(scheduler, ledger, display, identities, pending)
                while pending and not wishes.only_prepare:
                    scheduler.work(pending)
                    # Other processes may have ended since, with or without a record for their tasks.
                    pending = ledger.sort(list(ledger.elsewhere), retry_failed=False)
        finally:
            pool.close()
            ledger.release()
    return Result(mine, ledger.found, ledger.done, ledger.failed, list(ledger.elsewhere))


def known_durations(states: States, tasks: Sequence[RunSpec]) -> Durations:
    """Durations of the tasks that are done."""
    durations = Durations()
    for task in tasks:
        state = states.get(task.key)
        if state is not None and state.status == "done" and state.seconds:
            durations.add(task, state.seconds)
    return durations


def _prepared(
    scheduler: Scheduler[SlotT],
    ledger: Ledger,
    display: Display,
    identities: Identities,
    tasks: list[RunSpec],
) -> list[RunSpec]:
    """Write synthetic sets and train thin victims, each once; returns the tasks that can be done."""
    from vbench.sweep.identity import is_written, synthetic_set

    blocked: dict[Setup, str] = {}
    groups = list(dict.fromkeys(task.group for task in tasks))
    sets: dict[SyntheticSet | None, WriteSet] = {}
    for group in groups:
        if not is_written(group.data):
            sets.setdefault(synthetic_set(group.data), WriteSet(group.data))
    for job, reason in scheduler.prepare(sets.values()).items():
        same = synthetic_set(job.data)
        blocked |= {group: reason for group in groups if synthetic_set(group.data) == same}
    waiting = identities.untrained(group for group in groups if group not in blocked)
    for training, reason in scheduler.prepare(waiting).items():
        blocked |= dict.fromkeys(waiting[training], reason)
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


_REASON_WIDTH = 60


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


def failures(failed: Mapping[RunSpec, str]) -> str:
    """A table with a row per failed task; columns with equal values are left out."""
    rows = [task.columns for task in failed]
    varying = [
        name for name in rows[0] if name in ("victim", "attack") or len({row[name] for row in rows}) > 1
    ]
    table = [
        [*(row[name] for name in varying), reason] for row, reason in zip(rows, failed.values(), strict=True)
    ]
    widths = [None] * len(varying) + [_REASON_WIDTH]
    return write([simple("", [*varying, "failed because"], table, widths=widths)], "plain")


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


def ray_engine(file: SuiteFile, address: str | None) -> Callable[[int, Path], RayPool]:
    """An engine on a running Ray cluster; raises :class:`BadInput` if Ray is not installed."""
    from vbench.sweep.ray import RayPool, require_ray

    require_ray()
    return lambda tasks, folder: RayPool(address, file.suite.resources)
