"""The local engine: a pool of processes on this machine, within its memory and its GPUs."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from vbench.errors import VbenchError
from vbench.sweep.jobs import Died, Do, Job, Open, Outcome
from vbench.sweep.memory import available, resident
from vbench.sweep.tasks import Group
from vbench.sweep.worker import Start, serve

#: Left to everything else on the machine.
RESERVE = 512 * 1024**2
#: What a worker takes once it has loaded torch, about.
WORKER = 1024**3
_FAREWELL_SECONDS = 5.0
#: Workers in a row that end before they have taken a job, until that is no accident.
_STILLBORN = 2
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class Slot:
    """Room for one worker; ``gpu``: what it may see; ``up``: it has said that it can take a job."""

    number: int
    gpu: str | None = None
    process: Any = None
    connection: Connection | None = None
    up: bool = False
    job: Job | None = None
    opened: Group | None = None
    need: int = 0
    stillborn: int = 0

    @property
    def pid(self) -> int | None:
        """Process id of the worker, None while there is none."""
        return self.process.pid if self.process is not None else None


class LocalPool:
    """``jobs`` workers of ``threads`` threads; GPUs are dealt out to them in turn.

    ``runs`` is where records go and ``logs`` where workers print.
    """

    remote = False

    def __init__(self, jobs: int, threads: int, gpus: list[str], runs: Path, logs: Path) -> None:
        self.width = jobs
        self._threads = threads
        self._runs, self._logs = runs, logs
        self._slots = [Slot(n, gpus[n % len(gpus)] if gpus else None) for n in range(jobs)]
        self._context = multiprocessing.get_context("spawn")
        self._fill()

    def idle(self) -> list[Slot]:
        """Slots whose worker can take a job."""
        return [slot for slot in self._slots if slot.up and slot.job is None]

    def busy(self) -> list[Slot]:
        """Slots with a job."""
        return [slot for slot in self._slots if slot.job is not None]

    def admits(self, slot: Slot, need: int) -> bool:
        """Whether a job that may need ``need`` bytes fits beside what runs; alone any job may try.

        What runs may still grow to what it was said to need. Idle workers that are in the way are ended.
        """
        running = self.busy()
        if not running:
            return True
        growth = sum(max(0, other.need - resident(other.pid)) for other in running)
        if need - resident(slot.pid) <= available() - growth - RESERVE:
            return True
        for other in self.idle():
            self._end(other)
        return False

    def start(self, slot: Slot, job: Job, need: int = 0) -> None:
        """Hand a job to the worker of an idle slot."""
        slot.job, slot.need = job, need
        slot.opened = job.group if isinstance(job, Open) else job.task.group if isinstance(job, Do) else None
        # It may have died while idle; wait() finds the connection closed and says so.
        with suppress(OSError):
            slot.connection.send(job)

    def wait(self, seconds: float) -> list[tuple[Slot, Job, Outcome]]:
        """Outcomes of jobs that ended, waiting for one at most ``seconds``; starts workers that are missing.

        Raises :class:`VbenchError` where workers end before they can take a job.
        """
        listening = {slot.connection: slot for slot in self._slots if slot.connection and not _rests(slot)}
        ended = []
        for connection in wait(list(listening), timeout=seconds):
            slot = listening[connection]
            if not slot.up:
                self._welcome(slot)
                continue
            ended.append((slot, slot.job, self._receive(slot)))
            slot.job = None
        if ended or not self.busy():
            self._fill()
        return ended

    def renew(self, slot: Slot) -> None:
        """End a worker that may be in a bad state, and start another."""
        self._end(slot)
        self._fill()

    def close(self) -> None:
        """End every worker, whatever it is doing."""
        for slot in self._slots:
            if slot.process is not None:
                slot.process.terminate()
        for slot in self._slots:
            self._end(slot)
            slot.job = None

    def _fill(self) -> None:
        """Start the workers that are missing: one at least, others while there is memory for them."""
        for slot in self._slots:
            alone = not any(other.process for other in self._slots)
            if slot.process is None and (alone or available() > RESERVE + WORKER):
                self._spawn(slot)

    def _welcome(self, slot: Slot) -> None:
        try:
            slot.connection.recv()
        except (EOFError, OSError):
            reason, log = self._farewell(slot), self._log(slot)
            slot.stillborn += 1
            if slot.stillborn > _STILLBORN:
                raise VbenchError(f"a worker cannot start: {reason}; what it printed is in {log}") from None
            return
        slot.up, slot.stillborn = True, 0

    def _receive(self, slot: Slot) -> Outcome:
        try:
            return slot.connection.recv()
        except (EOFError, OSError):
            return Died(f"{self._farewell(slot)}; what it printed is in {self._log(slot)}")

    def _farewell(self, slot: Slot) -> str:
        """What became of a worker that is gone."""
        slot.process.join(_FAREWELL_SECONDS)
        reason = _death(slot.process.exitcode)
        self._end(slot)
        return reason

    def _spawn(self, slot: Slot) -> None:
        ours, theirs = self._context.Pipe()
        start = Start(self._runs, self._log(slot), self._threads)
        with _environment(self._variables(slot)):
            # Libraries read these when they are loaded, which may be before the worker's first line.
            slot.process = self._context.Process(
                target=serve, args=(theirs, start), name=f"vbench-worker-{slot.number}", daemon=True
            )
            slot.process.start()
        theirs.close()
        slot.connection = ours

    def _variables(self, slot: Slot) -> dict[str, str]:
        threads = dict.fromkeys(_THREADS, str(self._threads))
        return threads if slot.gpu is None else {**threads, "CUDA_VISIBLE_DEVICES": slot.gpu}

    def _log(self, slot: Slot) -> Path:
        return self._logs / f"worker-{slot.number}.log"

    def _end(self, slot: Slot) -> None:
        slot.opened, slot.up = None, False
        if slot.process is None:
            return
        slot.process.terminate()
        slot.process.join(_FAREWELL_SECONDS)
        if slot.process.is_alive():
            slot.process.kill()
            slot.process.join()
        slot.connection.close()
        slot.process = slot.connection = None


def _rests(slot: Slot) -> bool:
    return slot.up and slot.job is None


def _death(code: int | None) -> str:
    if code is None or code >= 0:
        return f"its worker ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (killed; out of memory?)" if name == "SIGKILL" else ""
    return f"its worker was ended by {name}{hint}"


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
