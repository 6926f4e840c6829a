"""The state of each task, on disk."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vbench.core.files import check_inside, write_atomically
from vbench.records.spec import RunSpec
from vbench.records.store import RunStore
from vbench.sweep.engine import Did, spent
from vbench.sweep.tasks import task_from

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
    record's id; ``fits``: fit id -> file of the perturbation in the folder of runs. ``pid``: the worker's
    process, ``driver``: the process of ``vbench sweep``; ``seconds``: duration; ``started``: in seconds since
    the epoch; ``memory``: highest resident set size in bytes.
    """

    model_config = ConfigDict(extra="ignore")

    status: Literal["running", "done", "failed", "interrupted"]
    title: str = ""
    identity: str | None = None
    record: str | None = None
    fits: dict[str, str] = Field(default_factory=dict)
    host: str = ""
    pid: _Pid | None = None
    driver: _Pid | None = None
    started: _Seconds | None = None
    seconds: _Seconds | None = None
    memory: int | None = None
    attempts: int = 0
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

    def _inside(self, path: Path) -> Path:
        return check_inside(self.folder.parents[1], path)

    def get(self, key: str) -> TaskState | None:
        """The state of a task; None if there is none, or it cannot be read."""
        try:
            return TaskState.model_validate_json(self.path(key).read_bytes())
        except (OSError, ValidationError):
            return None

    def put(self, key: str, state: TaskState) -> None:
        """Write the state of a task."""
        write_atomically(self._inside(self.path(key)), state.model_dump_json(indent=1) + "\n")

    def touch(self, key: str) -> None:
        """Mark that the driver of a running task is alive."""
        if self.path(key).exists():
            os.utime(self.path(key), follow_symlinks=False)

    def alive(self, key: str, state: TaskState) -> bool:
        """Whether a task with status "running" is really running.

        Its driver must have touched the file recently and, if it is on this host, must exist. After a clock
        was changed the driver seems dead until its next touch.
        """
        if state.status != "running":
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
        write_atomically(self._inside(self.folder / _LIST), listing.model_dump_json() + "\n")

    def listing(self) -> Listing | None:
        """The list that :meth:`list_tasks` wrote; None if there is none, or it cannot be read."""
        try:
            return Listing.model_validate_json((self.folder / _LIST).read_bytes())
        except (OSError, ValidationError):
            return None


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
    ``failed``: reasons; ``elsewhere``: tasks running in another process.
    """

    states: States
    store: RunStore
    identify: Callable[[RunSpec], str | None]
    found: dict[RunSpec, str] = field(default_factory=dict)
    done: dict[RunSpec, str] = field(default_factory=dict)
    failed: dict[RunSpec, str] = field(default_factory=dict)
    elsewhere: dict[RunSpec, TaskState] = field(default_factory=dict)
    learnt: dict[str, Path] = field(default_factory=dict)
    memory: dict[tuple[str, str, str], int] = field(default_factory=dict)
    _running: dict[RunSpec, TaskState] = field(default_factory=dict)
    _touched: float = field(default_factory=time.monotonic)

    def sort(self, tasks: Iterable[RunSpec], retry_failed: bool) -> list[RunSpec]:
        """Sort tasks by their states on disk; returns those that must be done."""
        index, pending = self.store.index(), []
        for task in tasks:
            state = self.states.get(task.key)
            self.elsewhere.pop(task, None)
            if state is None:
                pending.append(task)
                continue
            self._remember(task, state)
            files = index.get(state.record or "", ())
            if files and self._same(task, state) and self.store.get(state.record or "", files) is not None:
                self.found[task] = state.record or ""
                if state.status != "done":
                    self.put(task, state.model_copy(update={"status": "done", "reason": ""}))
            elif self.states.alive(task.key, state):
                self.elsewhere[task] = state
            elif state.status == "failed" and not retry_failed:
                self.failed[task] = state.reason
            else:
                pending.append(task)
        return pending

    def _same(self, task: RunSpec, state: TaskState) -> bool:
        return state.identity is not None and state.identity == self.identify(task)

    def _remember(self, task: RunSpec, state: TaskState) -> None:
        if state.memory:
            self.memory[task.kind] = max(state.memory, self.memory.get(task.kind, 0))
        self._note_learnt(state.fits)

    def _note_learnt(self, fits: dict[str, str]) -> None:
        root = self.store.root.resolve()
        for fit, relative in fits.items():
            path = (root / relative).resolve()
            if path.is_relative_to(root) and path.is_file():
                self.learnt[fit] = path

    def taken(self, task: RunSpec, record: str) -> bool:
        """Whether another process has begun or finished this task since :meth:`sort`."""
        known = self.store.get(record)
        if known is not None:
            self.same_record(task, record, spent(known.cost))
            return True
        state = self.states.get(task.key)
        if state is not None and self.states.alive(task.key, state):
            self.elsewhere[task] = state
            return True
        return False

    def start(self, task: RunSpec, record: str, pid: int | None, attempt: int) -> None:
        """Note that a worker runs the task."""
        state = TaskState(
            status="running",
            record=record,
            identity=self.identify(task),
            host=socket.gethostname(),
            pid=pid,
            driver=os.getpid(),
            started=time.time(),
            attempts=attempt,
        )
        self._running[task] = state
        self.put(task, state)

    def finish(self, task: RunSpec, did: Did) -> None:
        """Note that the task is done; writes the files that its worker could not, the record last."""
        for relative in sorted(did.files, key=lambda name: "/" not in name):
            write_atomically(self.store.root / relative, did.files[relative])
        state = self._running.pop(task)
        fits = dict(did.fits)
        changes = {"status": "done", "record": did.record, "fits": fits, "seconds": did.seconds}
        state = state.model_copy(update={**changes, "memory": did.memory, "pid": None, "driver": None})
        self.put(task, state)
        self._remember(task, state)
        self.done[task] = did.record

    def same_record(self, task: RunSpec, record: str, seconds: float | None) -> None:
        """Note that the task's record exists, from ``vbench run`` or an equivalent task."""
        self.found[task] = record
        state = TaskState(status="done", record=record, identity=self.identify(task), seconds=seconds)
        self.put(task, state)

    def fail(self, task: RunSpec, reason: str) -> None:
        """Note that the task failed, and why."""
        state = self._running.pop(task, None) or TaskState(status="failed", identity=self.identify(task))
        update = {"status": "failed", "reason": reason, "pid": None, "driver": None}
        self.put(task, state.model_copy(update=update))
        self.failed[task] = reason

    def lose(self, task: RunSpec) -> None:
        """Note that the task was interrupted."""
        update = {"status": "interrupted", "pid": None, "driver": None}
        self.put(task, self._running.pop(task).model_copy(update=update))

    def release(self) -> None:
        """Note that all running tasks were interrupted."""
        for task in list(self._running):
            self.lose(task)

    def heartbeat(self) -> None:
        """Touch the running tasks' files every ``HEARTBEAT_SECONDS``."""
        if time.monotonic() - self._touched >= HEARTBEAT_SECONDS:
            self._touched = time.monotonic()
            for task in self._running:
                self.states.touch(task.key)

    def put(self, task: RunSpec, state: TaskState) -> None:
        """Write a state under the task's key."""
        self.states.put(task.key, state.model_copy(update={"title": task.title}))
