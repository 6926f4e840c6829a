"""What is known of each task beside its record: running, failed and why, how long it took.

One small file a task, written whole, under ``RUNS/sweep/NAME``. The records decide what is done; these files
say where a task's record is, so that nothing has to be opened to find that it is there. Any of them may be
deleted.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vbench.files import check_inside, write_atomically
from vbench.sweep.tasks import Task, task_from

#: A running task's file is touched this often, by the process in charge of it.
HEARTBEAT_SECONDS = 10.0
#: Without a touch for this long, whoever was in charge is gone. Clocks of two hosts may differ by less.
STALE_SECONDS = 120.0
_LIST = "suite.json"

_Pid = Annotated[int, Field(ge=0, lt=2**31)]
#: Until the year 5000.
_Seconds = Annotated[float, Field(le=1e11, allow_inf_nan=False)]


class TaskState(BaseModel):
    """The last that is known of a task.

    ``identity``: a hash over all that decides what its record is called, None where that is not known;
    ``record``: the record's id; ``fits``: id of what was learnt for it -> its file in the folder of runs.
    ``pid`` is the process that runs it, ``driver`` the one in charge; times are seconds, ``started`` since
    the epoch; ``memory`` is the highest resident set while it ran, in bytes.
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
        """Those of the sweep ``name`` whose records are in ``runs``."""
        return cls(runs / "sweep" / name)

    def path(self, key: str) -> Path:
        """The file of a task."""
        return self.folder / f"{key}.json"

    def _inside(self, path: Path) -> Path:
        return check_inside(self.folder.parents[1], path)

    def get(self, key: str) -> TaskState | None:
        """What is known of a task; None where nothing is, or nothing that can be read."""
        try:
            return TaskState.model_validate_json(self.path(key).read_bytes())
        except (OSError, ValidationError):
            return None

    def put(self, key: str, state: TaskState) -> None:
        """Write what is known of a task."""
        write_atomically(self._inside(self.path(key)), state.model_dump_json(indent=1) + "\n")

    def touch(self, key: str) -> None:
        """Say that somebody is still in charge of a running task."""
        if self.path(key).exists():
            os.utime(self.path(key), follow_symlinks=False)

    def alive(self, key: str, state: TaskState) -> bool:
        """Whether a state that says "running" is true.

        The one in charge touched the file a short while ago, by this clock or by one that is not far from
        it, and on this host it still exists. After a clock was set it looks gone until the next touch.
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

    def list_tasks(self, file: Path, tasks: list[Task], jobs: int) -> None:
        """Note which tasks there are, for ``vbench status`` without the suite."""
        listing = Listing(file=str(file), tasks={task.key: asdict(task) for task in tasks}, jobs=jobs)
        write_atomically(self._inside(self.folder / _LIST), listing.model_dump_json() + "\n")

    def listing(self) -> Listing | None:
        """What :meth:`list_tasks` noted; None where nothing was, or nothing that can be read."""
        try:
            return Listing.model_validate_json((self.folder / _LIST).read_bytes())
        except (OSError, ValidationError):
            return None


def tasks_in(listing: Listing) -> list[Task]:
    """The tasks of a listing, less those of another version that cannot be read."""
    found = []
    for value in listing.tasks.values():
        try:
            found.append(task_from(value))
        except ValueError:
            continue
    return found
