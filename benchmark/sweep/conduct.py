"""A sweep from its suite to its records: prepare what tasks wait for, do the tasks, say how it went."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from vbench.data.synthetic.embedded import SyntheticSet
from vbench.store import RunStore
from vbench.sweep.display import Display
from vbench.sweep.identity import Identities, drawn_set, is_written
from vbench.sweep.jobs import WriteSet
from vbench.sweep.ledger import Ledger
from vbench.sweep.load import SuiteFile
from vbench.sweep.pool import Pool
from vbench.sweep.remaining import Durations
from vbench.sweep.scheduler import Scheduler
from vbench.sweep.state import States
from vbench.sweep.tasks import Group, Task


@dataclass(frozen=True)
class Result:
    """How a sweep, or a shard of it, went: tasks by what became of them."""

    tasks: Sequence[Task]
    found: dict[Task, str]
    done: dict[Task, str]
    failed: dict[Task, str]
    elsewhere: Sequence[Task]

    @property
    def complete(self) -> bool:
        """Whether every task has its record."""
        return len(self.found) + len(self.done) == len(self.tasks)


@dataclass(frozen=True)
class Wishes:
    """``only_prepare`` stops before the first task; ``retry_failed`` tries again what failed before."""

    runs: Path
    retry_failed: bool = True
    only_prepare: bool = False
    quiet: bool = False


def conduct(
    file: SuiteFile,
    every: Sequence[Task],
    mine: Sequence[Task],
    wishes: Wishes,
    pool_for: Callable[[int, Path], Pool],
) -> Result:
    """Do what is missing of ``mine``, the part of ``every`` task of the suite that this process is about.

    ``pool_for`` makes the engine, given how many tasks there are and a folder for logs; it is not called
    where nothing is missing. A task that fails does not stop the others.
    """
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
                    # Whoever was at the others may have ended since, with or without a record.
                    pending = ledger.sort(list(ledger.elsewhere), retry_failed=False)
        finally:
            pool.close()
            ledger.release()
    return Result(mine, ledger.found, ledger.done, ledger.failed, list(ledger.elsewhere))


def known_durations(states: States, tasks: Sequence[Task]) -> Durations:
    """How long tasks took that were done before."""
    durations = Durations()
    for task in tasks:
        state = states.get(task.key)
        if state is not None and state.status == "done" and state.seconds:
            durations.add(task, state.seconds)
    return durations


def _prepared(
    scheduler: Scheduler, ledger: Ledger, display: Display, identities: Identities, tasks: list[Task]
) -> list[Task]:
    """Write synthetic sets and train thin victims, each once; returns the tasks that can go on."""
    blocked: dict[Group, str] = {}
    groups = list(dict.fromkeys(task.group for task in tasks))
    sets: dict[SyntheticSet | None, WriteSet] = {}
    for group in groups:
        if not is_written(group.data):
            sets.setdefault(drawn_set(group.data), WriteSet(group.data))
    for job, reason in scheduler.prepare(sets.values()).items():
        same = drawn_set(job.data)
        blocked |= {group: reason for group in groups if drawn_set(group.data) == same}
    waiting = identities.untrained(group for group in groups if group not in blocked)
    for job, reason in scheduler.prepare(waiting).items():
        blocked |= dict.fromkeys(waiting[job], reason)
    for task in tasks:
        if task.group in blocked:
            ledger.fail(task, blocked[task.group])
            display.failed(task, blocked[task.group])
    return [task for task in tasks if task.group not in blocked]


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM, which batch systems send before they kill, end the work as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:
        # Not the main thread: nobody sends it signals.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
