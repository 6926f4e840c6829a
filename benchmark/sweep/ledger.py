"""Which tasks are done, failed or somebody else's, and what was learnt; kept on disk as it changes."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vbench.files import write_atomically
from vbench.store import RunStore
from vbench.sweep.jobs import Did
from vbench.sweep.state import HEARTBEAT_SECONDS, States, TaskState
from vbench.sweep.tasks import Task
from vbench.sweep.work import spent


@dataclass
class Ledger:
    """Books about the tasks of one sweep; ``identify`` says what decides the name of a task's record.

    ``found``: tasks that had a record before; ``done``: those that were done now; ``failed``: why;
    ``elsewhere``: tasks that another process is at.
    """

    states: States
    store: RunStore
    identify: Callable[[Task], str | None]
    found: dict[Task, str] = field(default_factory=dict)
    done: dict[Task, str] = field(default_factory=dict)
    failed: dict[Task, str] = field(default_factory=dict)
    elsewhere: dict[Task, TaskState] = field(default_factory=dict)
    learnt: dict[str, Path] = field(default_factory=dict)
    memory: dict[tuple[str, str, str], int] = field(default_factory=dict)
    _running: dict[Task, TaskState] = field(default_factory=dict)
    _touched: float = field(default_factory=time.monotonic)

    def sort(self, tasks: Iterable[Task], retry_failed: bool) -> list[Task]:
        """Note what is known of each task; returns those that are to be done."""
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

    def _same(self, task: Task, state: TaskState) -> bool:
        return state.identity is not None and state.identity == self.identify(task)

    def _remember(self, task: Task, state: TaskState) -> None:
        if state.memory:
            self.memory[task.kind] = max(state.memory, self.memory.get(task.kind, 0))
        self._note_learnt(state.fits)

    def _note_learnt(self, fits: dict[str, str]) -> None:
        root = self.store.root.resolve()
        for fit, relative in fits.items():
            path = (root / relative).resolve()
            if path.is_relative_to(root) and path.is_file():
                self.learnt[fit] = path

    def taken(self, task: Task, record: str) -> bool:
        """Whether, since the tasks were sorted, somebody else has begun or finished this one."""
        known = self.store.get(record)
        if known is not None:
            self.same_record(task, record, spent(known.cost))
            return True
        state = self.states.get(task.key)
        if state is not None and self.states.alive(task.key, state):
            self.elsewhere[task] = state
            return True
        return False

    def start(self, task: Task, record: str, pid: int | None, attempt: int) -> None:
        """A worker is at it."""
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

    def finish(self, task: Task, did: Did) -> None:
        """It is done; files that its worker could not store are stored now, the record last."""
        for relative in sorted(did.files, key=lambda name: "/" not in name):
            write_atomically(self.store.root / relative, did.files[relative])
        state = self._running.pop(task)
        fits = dict(did.fits)
        changes = {"status": "done", "record": did.record, "fits": fits, "seconds": did.seconds}
        state = state.model_copy(update={**changes, "memory": did.memory, "pid": None, "driver": None})
        self.put(task, state)
        self._remember(task, state)
        self.done[task] = did.record

    def same_record(self, task: Task, record: str, seconds: float | None) -> None:
        """Its record is there: of ``vbench run``, or of a task that says the same in other words."""
        self.found[task] = record
        state = TaskState(status="done", record=record, identity=self.identify(task), seconds=seconds)
        self.put(task, state)

    def fail(self, task: Task, reason: str) -> None:
        """It cannot be done, and why."""
        state = self._running.pop(task, None) or TaskState(status="failed", identity=self.identify(task))
        update = {"status": "failed", "reason": reason, "pid": None, "driver": None}
        self.put(task, state.model_copy(update=update))
        self.failed[task] = reason

    def lose(self, task: Task) -> None:
        """Nobody is at it any more: it was interrupted."""
        update = {"status": "interrupted", "pid": None, "driver": None}
        self.put(task, self._running.pop(task).model_copy(update=update))

    def release(self) -> None:
        """Nobody is at anything any more."""
        for task in list(self._running):
            self.lose(task)

    def heartbeat(self) -> None:
        """Say now and then that what runs is still being looked after."""
        if time.monotonic() - self._touched >= HEARTBEAT_SECONDS:
            self._touched = time.monotonic()
            for task in self._running:
                self.states.touch(task.key)

    def put(self, task: Task, state: TaskState) -> None:
        """Write a state under the task's key."""
        self.states.put(task.key, state.model_copy(update={"title": task.title}))
