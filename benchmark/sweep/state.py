"""The state of each task of a sweep, on disk; ``vbench status``, which reads nothing else. No torch."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vbench.core.errors import BadInput
from vbench.core.files import check_inside, write_atomically
from vbench.core.text import show_seconds
from vbench.records.spec import RunSpec, differing
from vbench.records.store import RunStore
from vbench.reports.table import simple, write
from vbench.sweep.engine import Done
from vbench.sweep.read import read_suite
from vbench.sweep.tasks import Durations, task_from, tasks_of

#: The driver of a running task touches its file this often.
HEARTBEAT_SECONDS = 10.0

#: After this long without a touch the driver is considered dead. Clocks of two hosts may differ by less.
STALE_SECONDS = 120.0

_LIST = "suite.json"

_Pid = Annotated[int, Field(ge=0, lt=2**31)]

#: Until the year 5000.
_Seconds = Annotated[float, Field(le=1e11, allow_inf_nan=False)]


class TaskState(BaseModel):
    """The last known state of a task.

    ``identity``: a hash over everything that determines the record id, None if not known; ``record``: the
    record's id. ``pid``: the worker's process, ``driver``: the process of ``vbench sweep``; ``seconds``:
    duration; ``started``: in seconds since the epoch; ``memory``: highest resident set size in bytes.
    """

    model_config = ConfigDict(extra="ignore")

    status: Literal["running", "done", "failed", "interrupted"]
    identity: str | None = None
    record: str | None = None
    host: str = ""
    pid: _Pid | None = None
    driver: _Pid | None = None
    started: _Seconds | None = None
    seconds: _Seconds | None = None
    memory: int = 0
    reason: str = ""


class Listing(BaseModel):
    """All tasks of a sweep by key, and the file they come from."""

    file: str
    tasks: dict[str, dict[str, Any]]
    jobs: int = 1


class States:
    """The states of one sweep's tasks, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, runs: Path, name: str) -> States:
        """The states of the sweep ``name`` with records in ``runs``."""
        return cls(runs / "sweep" / name)

    def path(self, key: str) -> Path:
        """The file of a task."""
        return self.folder / f"{key}.json"

    def _write(self, path: Path, content: BaseModel) -> None:
        write_atomically(check_inside(self.folder.parents[1], path), content.model_dump_json(indent=1) + "\n")

    def get(self, key: str) -> TaskState | None:
        """The state of a task; None if there is none, or it cannot be read."""
        try:
            return TaskState.model_validate_json(self.path(key).read_bytes())
        except (OSError, ValidationError):
            return None

    def put(self, key: str, state: TaskState) -> None:
        """Write the state of a task."""
        self._write(self.path(key), state)

    def touch(self, key: str) -> None:
        """Mark that the driver of a running task is alive."""
        if self.path(key).exists():
            os.utime(self.path(key), follow_symlinks=False)

    def alive(self, key: str, state: TaskState | None) -> bool:
        """Whether a task with status "running" is really running.

        Its driver must have touched the file recently and, if it is on this host, must exist. After a clock
        was changed the driver seems dead until its next touch.
        """
        if state is None or state.status != "running":
            return False
        if state.host == socket.gethostname() and not psutil.pid_exists(state.driver or 0):
            return False
        try:
            age = time.time() - self.path(key).stat().st_mtime
        except OSError:
            return False
        return abs(age) < STALE_SECONDS

    def list_tasks(self, file: Path, tasks: list[RunSpec], jobs: int) -> None:
        """Write the list of all tasks, for ``vbench status`` without the suite."""
        listing = Listing(file=str(file), tasks={task.key: asdict(task) for task in tasks}, jobs=jobs)
        self._write(self.folder / _LIST, listing)

    def listing(self) -> Listing | None:
        """The list that :meth:`list_tasks` wrote; None if there is none, or it cannot be read."""
        try:
            return Listing.model_validate_json((self.folder / _LIST).read_bytes())
        except (OSError, ValidationError):
            return None

    def durations(self, tasks: Iterable[RunSpec]) -> Durations:
        """Durations of the tasks that are done."""
        durations = Durations()
        for task in tasks:
            state = self.get(task.key)
            if state is not None and state.status == "done":
                durations.add(task, state.seconds or 0.0)
        return durations


def tasks_in(listing: Listing) -> list[RunSpec]:
    """The tasks of a listing, without those of other versions that cannot be read."""
    found = []
    for value in listing.tasks.values():
        try:
            found.append(task_from(value))
        except ValueError:
            continue
    return found


@dataclass
class Ledger:
    """Tracks the tasks of one sweep; ``identify`` returns the identity of a task, see :class:`TaskState`.

    ``found``: record ids of tasks that already had a record; ``done``: record ids of tasks done now;
    ``failed``: reasons; ``elsewhere``: tasks running in another process; ``memory``: the most bytes that a
    kind of task took.
    """

    states: States
    store: RunStore
    identify: Callable[[RunSpec], str | None]
    found: dict[RunSpec, str] = field(default_factory=dict)
    done: dict[RunSpec, str] = field(default_factory=dict)
    failed: dict[RunSpec, str] = field(default_factory=dict)
    elsewhere: set[RunSpec] = field(default_factory=set)
    memory: dict[tuple[str, str, str], int] = field(default_factory=dict)
    _running: dict[RunSpec, TaskState] = field(default_factory=dict)
    _touched: float = field(default_factory=time.monotonic)

    def sort(self, tasks: Iterable[RunSpec], retry_failed: bool) -> list[RunSpec]:
        """Sort tasks by their states on disk; returns those that must be done."""
        index, pending = self.store.index(), []
        for task in tasks:
            state = self.states.get(task.key)
            self.elsewhere.discard(task)
            if state is None:
                pending.append(task)
                continue
            self._note_memory(task, state.memory)
            files = index.get(state.record or "", ())
            if files and self._same(task, state) and self.store.get(state.record or "", files) is not None:
                self.found[task] = state.record or ""
                if state.status != "done":
                    self.states.put(task.key, state.model_copy(update={"status": "done", "reason": ""}))
            elif self.states.alive(task.key, state):
                self.elsewhere.add(task)
            elif state.status == "failed" and not retry_failed:
                self.failed[task] = state.reason
            else:
                pending.append(task)
        return pending

    def _same(self, task: RunSpec, state: TaskState) -> bool:
        return state.identity is not None and state.identity == self.identify(task)

    def _note_memory(self, task: RunSpec, memory: int) -> None:
        self.memory[task.kind] = max(memory, self.memory.get(task.kind, 0))

    def expected_memory(self, task: RunSpec) -> int:
        """Bytes that a task may need: what its kind took, else the most that any took; 0 if unknown."""
        return self.memory.get(task.kind) or max(self.memory.values(), default=0)

    def runs_elsewhere(self, task: RunSpec) -> bool:
        """Whether another process has begun this task since :meth:`sort`."""
        if self.states.alive(task.key, self.states.get(task.key)):
            self.elsewhere.add(task)
        return task in self.elsewhere

    def start(self, task: RunSpec, pid: int | None) -> None:
        """Note that a worker runs the task."""
        state = TaskState(
            status="running",
            identity=self.identify(task),
            host=socket.gethostname(),
            pid=pid,
            driver=os.getpid(),
            started=time.time(),
        )
        self._running[task] = state
        self.states.put(task.key, state)

    def finish(self, task: RunSpec, done: Done) -> None:
        """Note that the task has its record; writes the files that its worker could not, the record last."""
        for relative in sorted(done.files, key=lambda name: "/" not in name):
            write_atomically(self.store.root / relative, done.files[relative])
        self._end(task, "done", record=done.record, seconds=done.seconds, memory=done.memory)
        self._note_memory(task, done.memory)
        (self.done if done.new else self.found)[task] = done.record

    def fail(self, task: RunSpec, reason: str) -> None:
        """Note that the task failed, and why."""
        self._end(task, "failed", reason=reason)
        self.failed[task] = reason

    def lose(self, task: RunSpec) -> None:
        """Note that the task was interrupted."""
        self._end(task, "interrupted")

    def release(self) -> None:
        """Note that all running tasks were interrupted."""
        for task in list(self._running):
            self.lose(task)

    def _end(self, task: RunSpec, status: str, **changes: object) -> None:
        state = self._running.pop(task, None) or TaskState(status="failed", identity=self.identify(task))
        changes |= {"status": status, "pid": None, "driver": None}
        self.states.put(task.key, state.model_copy(update=changes))

    def heartbeat(self) -> None:
        """Touch the running tasks' files every ``HEARTBEAT_SECONDS``."""
        if time.monotonic() - self._touched >= HEARTBEAT_SECONDS:
            self._touched = time.monotonic()
            for task in self._running:
                self.states.touch(task.key)


#: In the order in which they are shown.
STATUSES = ("done", "running", "failed", "interrupted", "to do")


@dataclass(frozen=True)
class TaskStatus:
    """``status``: one of :data:`STATUSES`; ``state``: None if the task was never started."""

    task: RunSpec
    status: str
    state: TaskState | None


@dataclass(frozen=True)
class SweepStatus:
    """One sweep: its name, suite file, the status of each task, and the time left, as text."""

    name: str
    file: str
    tasks: list[TaskStatus]
    left: str

    @property
    def counts(self) -> dict[str, int]:
        """How many tasks have each status."""
        found = Counter(one.status for one in self.tasks)
        return {status: found[status] for status in STATUSES}


def sweeps(runs: Path, suite: Path | None = None) -> list[SweepStatus]:
    """The status of a suite, or of every sweep with records in ``runs``."""
    index = RunStore(runs).index()
    if suite is not None:
        file = read_suite(suite)
        states = States.of(runs, file.suite.name)
        return [_status(states, str(suite), tasks_of(file), set(index))]
    found = []
    for folder in sorted(path.parent for path in (runs / "sweep").glob("*/suite.json")):
        states = States(folder)
        listing = states.listing()
        if listing is not None:
            found.append(_status(states, listing.file, tasks_in(listing), set(index)))
    if not found:
        raise BadInput(f"no sweep was started over {runs}; name a suite file")
    return found


def _status(states: States, file: str, tasks: list[RunSpec], records: set[str]) -> SweepStatus:
    known = [(task, states.get(task.key)) for task in tasks]
    statuses = [TaskStatus(task, _of(states, task, state, records), state) for task, state in known]
    listing = states.listing()
    running = sum(one.status == "running" for one in statuses)
    left = [one.task for one in statuses if one.status in ("running", "interrupted", "to do")]
    width = running or (listing.jobs if listing else 1)
    return SweepStatus(states.folder.name, file, statuses, states.durations(tasks).left(left, width))


def _of(states: States, task: RunSpec, state: TaskState | None, records: set[str]) -> str:
    if state is None:
        return "to do"
    if state.record in records:
        return "done"
    if state.status == "running":
        return "running" if states.alive(task.key, state) else "interrupted"
    return "to do" if state.status == "done" else state.status


def show(sweep: SweepStatus) -> str:
    """A line with counts and the time left, a line per running task, a table of failed tasks."""
    counts = ", ".join(f"{count} {status}" for status, count in sweep.counts.items() if count)
    lines = [f"{sweep.name} ({sweep.file}): {len(sweep.tasks)} runs: {counts}; {sweep.left}"]
    for one in sweep.tasks:
        if one.status == "running" and one.state is not None:
            # A clock that was set back must not give a negative time.
            seconds = max(0.0, time.time() - (one.state.started or time.time()))
            where = f"{one.state.host}, pid {one.state.pid or one.state.driver}"
            lines.append(f"  running: {one.task.title}: for {show_seconds(seconds)} on {where}")
    failed = {one.task: one.state.reason for one in sweep.tasks if one.status == "failed" and one.state}
    return "\n".join([*lines, *(["", failures(failed)] if failed else [])])


def failures(failed: Mapping[RunSpec, str]) -> str:
    """A table with a row per failed task; columns with equal values are left out."""
    names = dict.fromkeys(("victim", "attack", *differing(failed)))
    table = [[*(task.columns[name] for name in names), reason] for task, reason in failed.items()]
    return write([simple("", [*names, "failed because"], table)], "plain")


def as_json(sweep: SweepStatus) -> dict[str, object]:
    """The status as data for JSON."""
    tasks = [
        {
            "key": one.task.key,
            **one.task.columns,
            "status": one.status,
            "record": one.state.record if one.state else None,
            "seconds": one.state.seconds if one.state else None,
            "reason": one.state.reason if one.state else "",
        }
        for one in sweep.tasks
    ]
    return {
        "name": sweep.name,
        "file": sweep.file,
        "counts": sweep.counts,
        "left": sweep.left,
        "tasks": tasks,
    }
