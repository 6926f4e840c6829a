"""The local engine: processes of this machine, within its cores, GPUs and memory."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import psutil

from vbench.core.errors import BadInput, VbenchError
from vbench.sweep.engine import Died, Job, Outcome
from vbench.sweep.suite import Resources
from vbench.sweep.worker import serve


@dataclass(frozen=True)
class Shares:
    """``gpus``: values of CUDA_VISIBLE_DEVICES, given to workers in turn; empty: it is not changed."""

    jobs: int
    threads: int
    gpus: list[str]
    note: str = ""


def shares(resources: Resources, jobs: int | None, device: str, tasks: int) -> Shares:
    """Split cores and GPUs among workers.

    One worker per GPU (fewer or more if ``resources.gpus`` of a task is not 1); without GPUs one per core;
    never more than ``tasks``. ``jobs`` sets another number, with GPUs only a smaller one. Threads per worker:
    ``resources.cpus``, else OMP_NUM_THREADS, else the cores split evenly.
    """
    gpus = [] if device == "cpu" or resources.gpus == 0 else visible_gpus()
    if device == "cuda" and not gpus:
        raise BadInput("the suite asks for device: cuda, and there is no GPU for it here")
    hidden = [""] if resources.gpus == 0 else []
    cores, share = core_count(), resources.gpus or 1.0
    gpus = _bundles(gpus, math.ceil(share))
    room = math.floor(len(gpus) / min(share, 1.0))
    count = jobs or resources.jobs or room or max(1, int(cores / (resources.cpus or 1)))
    note = ""
    if gpus and count > room:
        note = f"{count} workers do not fit the GPUs, {room} do; resources.gpus below 1 lets tasks share one"
        count = room
    count = max(1, min(count, tasks))
    return Shares(count, _threads(resources, cores, count), gpus or hidden, note)


def _bundles(gpus: list[str], each: int) -> list[str]:
    """GPUs in groups of ``each``; the remainder stays unused."""
    if gpus and len(gpus) < each:
        raise BadInput(f"a task needs {each} GPUs, and there are {len(gpus)}")
    return [",".join(gpus[start : start + each]) for start in range(0, len(gpus) - each + 1, each)]


def _threads(resources: Resources, cores: int, jobs: int) -> int:
    if resources.cpus:
        return max(1, round(resources.cpus))
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) else max(1, cores // jobs)


def core_count() -> int:
    """Cores that this process may use; in a batch job they may be fewer than the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Names of the GPUs that torch may use, as in CUDA_VISIBLE_DEVICES."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = [name.strip() for name in named.split(",")] if named else [str(index) for index in range(count)]
    return names[:count]


_CGROUPS = Path("/sys/fs/cgroup")


def available(root: Path = _CGROUPS, cgroup: Path = Path("/proc/self/cgroup")) -> int:
    """Free memory in bytes, within the limits of Linux control groups at ``root`` and ``cgroup``."""
    free = psutil.virtual_memory().available
    left = [_left(folder) for folder in _folders(root, cgroup)]
    return max(0, min([free, *(bytes_ for bytes_ in left if bytes_ is not None)]))


def resident(pid: int | None) -> int:
    """Resident memory of a process in bytes; 0 if it is gone."""
    try:
        return psutil.Process(pid).memory_info().rss if pid else 0
    except psutil.Error:
        return 0


def _folders(root: Path, cgroup: Path) -> list[Path]:
    """The folders of this process's control group and its parents, whose limits apply too."""
    try:
        lines = cgroup.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if not name or (controllers and "memory" not in controllers.split(",")):
            continue
        base = root / "memory" if controllers else root
        inner = base / name.strip("/")
        found += [one for one in (inner, *inner.parents) if one == base or base in one.parents]
    return found


def _left(folder: Path) -> int | None:
    """Free bytes in a control group (version 2, then 1); None if it has no limit."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            allowed = int((folder / limit).read_text())
            taken = int((folder / used).read_text())
        except (OSError, ValueError):
            continue
        return allowed - taken + _cache(folder)
    return None


def _cache(folder: Path) -> int:
    """Bytes of cached files in a group; they count as used, but can be freed at once."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    stat = dict(line.split(" ", 1) for line in lines if " " in line)
    return int(stat.get("inactive_file", stat.get("total_inactive_file", 0)))


#: Bytes left free for other processes.
RESERVE = 512 * 1024**2

#: Approximate bytes of a worker with torch loaded.
WORKER = 1024**3

_JOIN_SECONDS = 5.0

#: More failed starts of a worker in a row than this end the sweep.
_MOST_FAILED_STARTS = 2

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class Slot:
    """A place for one worker; ``gpu``: its CUDA_VISIBLE_DEVICES; ``up``: it is ready for jobs."""

    number: int
    gpu: str | None = None
    process: Any = None
    connection: Connection | None = None
    up: bool = False
    job: Job | None = None
    group: Hashable = None
    need: int = 0
    failed_starts: int = 0

    @property
    def pid(self) -> int | None:
        """Process id of the worker; None if there is none."""
        return self.process.pid if self.process is not None else None


class LocalPool:
    """``jobs`` workers with ``threads`` threads each; ``gpus`` are given to them in turn.

    ``runs``: folder of records; ``logs``: folder of the workers' output.
    """

    def __init__(self, jobs: int, threads: int, gpus: list[str], runs: Path, logs: Path) -> None:
        self.width = jobs
        self._threads = threads
        self._runs, self._logs = runs, logs
        self._slots = [Slot(n, gpus[n % len(gpus)] if gpus else None) for n in range(jobs)]
        self._context = multiprocessing.get_context("spawn")
        self._fill()

    def idle(self) -> list[Slot]:
        """Slots whose worker is ready for a job."""
        return [slot for slot in self._slots if slot.up and slot.job is None]

    def busy(self) -> list[Slot]:
        """Slots with a job."""
        return [slot for slot in self._slots if slot.job is not None]

    def admits(self, slot: Slot, need: int) -> bool:
        """Whether a job that may need ``need`` bytes fits into memory now; True if no other job runs.

        Running jobs may still grow to their own need. If there is no room, idle workers are ended.
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
        # If the worker died while idle, wait() reports it.
        with suppress(OSError):
            _connection(slot).send(job)

    def wait(self, seconds: float) -> list[tuple[Slot, Job, Outcome]]:
        """Outcomes of finished jobs, waiting at most ``seconds`` for one; also starts missing workers.

        Raises :class:`VbenchError` if workers repeatedly end before they are ready.
        """
        listening = {slot.connection: slot for slot in self._slots if slot.connection and not _is_idle(slot)}
        ready = wait(list(listening), timeout=seconds)
        ended: list[tuple[Slot, Job, Outcome]] = []
        for slot in (listening[one] for one in listening if one in ready):
            if not slot.up:
                self._finish_start(slot)
            elif slot.job is not None:
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
        """End every worker, even if it has a job."""
        for slot in self._slots:
            if slot.process is not None:
                slot.process.terminate()
        for slot in self._slots:
            self._end(slot)
            slot.job = None

    def _fill(self) -> None:
        """Start missing workers: at least one, more while memory is free."""
        for slot in self._slots:
            none_runs = not any(other.process for other in self._slots)
            if slot.process is None and (none_runs or available() > RESERVE + WORKER):
                self._spawn(slot)

    def _finish_start(self, slot: Slot) -> None:
        try:
            _connection(slot).recv()
        except (EOFError, OSError):
            reason, log = self._end_dead(slot), self._log(slot)
            slot.failed_starts += 1
            if slot.failed_starts > _MOST_FAILED_STARTS:
                raise VbenchError(f"a worker cannot start: {reason}; its output is in {log}") from None
            return
        slot.up, slot.failed_starts = True, 0

    def _receive(self, slot: Slot) -> Outcome:
        try:
            outcome: Outcome = _connection(slot).recv()
        except (EOFError, OSError):
            return Died(f"{self._end_dead(slot)}; its output is in {self._log(slot)}")
        return outcome

    def _end_dead(self, slot: Slot) -> str:
        """Clear the slot of a dead worker; returns how the worker ended."""
        slot.process.join(_JOIN_SECONDS)
        reason = _death(slot.process.exitcode)
        self._end(slot)
        return reason

    def _spawn(self, slot: Slot) -> None:
        ours, theirs = self._context.Pipe()
        arguments = theirs, self._runs, self._log(slot), self._threads
        with _environment(self._variables(slot)):
            # Libraries read these when they are imported, which may be before the worker's own code runs.
            slot.process = self._context.Process(
                target=serve, args=arguments, name=f"vbench-worker-{slot.number}", daemon=True
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
        slot.group, slot.up = None, False
        if slot.process is None:
            return
        slot.process.terminate()
        slot.process.join(_JOIN_SECONDS)
        if slot.process.is_alive():
            slot.process.kill()
            slot.process.join()
        _connection(slot).close()
        slot.process = slot.connection = None


def _connection(slot: Slot) -> Connection:
    """The connection to the worker of a slot; ValueError if there is no worker."""
    if slot.connection is None:
        raise ValueError(f"slot {slot.number} has no worker")
    return slot.connection


def _is_idle(slot: Slot) -> bool:
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
