"""The status of sweeps, from their files alone: no model, no data, no torch."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from vbench.core.errors import BadInput
from vbench.core.text import show_seconds
from vbench.records.spec import RunSpec
from vbench.records.store import RunStore
from vbench.sweep.read import read_suite
from vbench.sweep.schedule import failures
from vbench.sweep.state import States, TaskState, tasks_in
from vbench.sweep.tasks import Durations, tasks_of

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
    durations, statuses = Durations(), []
    for task in tasks:
        state = states.get(task.key)
        statuses.append(TaskStatus(task, _of(states, task, state, records), state))
        if state is not None and state.status == "done" and state.seconds:
            durations.add(task, state.seconds)
    listing = states.listing()
    running = sum(one.status == "running" for one in statuses)
    left = [one.task for one in statuses if one.status in ("running", "interrupted", "to do")]
    width = running or (listing.jobs if listing else 1)
    return SweepStatus(states.folder.name, file, statuses, durations.left(left, width))


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
