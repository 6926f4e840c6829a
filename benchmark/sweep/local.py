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

from vbench.sweep.jobs import Died, Do, Job, Open, Outcome
from vbench.sweep.memory import available, resident
from vbench.sweep.tasks import Group
from vbench.sweep.worker import Start, serve

#: Left to everything else on the machine.
RESERVE = 512 * 1024**2
_FAREWELL_SECONDS = 5.0
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class Slot:
    """Room for one worker, which is started when it is first needed; ``gpu``: what it may see."""

    number: int
    gpu: str | None = None
    process: Any = None
    connection: Connection | None = None
    job: Job | None = None
    opened: Group | None = None
    need: int = 0

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

    def idle(self) -> list[Slot]:
        """Slots without a job."""
        return [slot for slot in self._slots if slot.job is None]

    def busy(self) -> list[Slot]:
        """Slots with a job."""
        return [slot for slot in self._slots if slot.job is not None]

    def admits(self, slot: Slot, need: int) -> bool:
        """Whether a job that may need ``need`` bytes fits beside what runs; alone any job may try.

        What runs may still grow to what it was said to need. An idle worker that is in the way is ended.
        """
        running = self.busy()
        if not running:
            return True
        growth = sum(max(0, other.need - resident(other.pid)) for other in running)
        free = available() - growth - RESERVE
        if need - resident(slot.pid) <= free:
            return True
        for other in self.idle():
            self._end(other)
        return False

    def start(self, slot: Slot, job: Job, need: int = 0) -> None:
        """Hand a job to the worker of an idle slot."""
        slot.job, slot.need = job, need
        if slot.process is None or not slot.process.is_alive():
            self._spawn(slot)
        slot.opened = job.group if isinstance(job, Open) else job.task.group if isinstance(job, Do) else None
        # It may have died while idle; wait() finds the connection closed and says so.
        with suppress(OSError):
            slot.connection.send(job)

    def wait(self, seconds: float) -> list[tuple[Slot, Job, Outcome]]:
        """Outcomes of jobs that ended, waiting for one at most ``seconds``."""
        busy = {slot.connection: slot for slot in self.busy()}
        ended = []
        for connection in wait(list(busy), timeout=seconds):
            slot = busy[connection]
            ended.append((slot, slot.job, self._receive(slot)))
            slot.job = None
        return ended

    def renew(self, slot: Slot) -> None:
        """End a worker that may be in a bad state; the next job starts another."""
        self._end(slot)

    def close(self) -> None:
        """End every worker, whatever it is doing."""
        for slot in self._slots:
            if slot.process is not None:
                slot.process.terminate()
        for slot in self._slots:
            self._end(slot)
            slot.job = None

    def _receive(self, slot: Slot) -> Outcome:
        try:
            return slot.connection.recv()
        except (EOFError, OSError):
            slot.process.join(_FAREWELL_SECONDS)
            reason = _death(slot.process.exitcode)
            self._end(slot)
            return Died(f"{reason}; what it printed is in {self._log(slot)}")

    def _spawn(self, slot: Slot) -> None:
        self._end(slot)
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
        slot.opened = None
        if slot.process is None:
            return
        slot.process.terminate()
        slot.process.join(_FAREWELL_SECONDS)
        if slot.process.is_alive():
            slot.process.kill()
            slot.process.join()
        slot.connection.close()
        slot.process = slot.connection = None


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
