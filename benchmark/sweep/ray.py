"""The Ray engine: the same jobs on a running Ray cluster. Ray is imported only if it is used.

Hosts need not share a disk with the driver: the files of a task are returned with its outcome, and only the
driver writes records, each once, even if Ray ran the task several times.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vbench.core.errors import BadInput
from vbench.core.files import CACHE_VARIABLE
from vbench.core.progress import say
from vbench.records.spec import Setup
from vbench.run.session import Session
from vbench.sweep.engine import Did, Died, Do, Job, Outcome
from vbench.sweep.suite import Resources
from vbench.sweep.worker import one_short_line as one_line
from vbench.sweep.worker import perform

#: Tasks in Ray's own queue, so that a free worker does not wait for the driver.
_QUEUED = 4
_ANSWER_SECONDS = 10.0
_NAMES = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
#: On a worker: the session, with the victims that earlier tasks opened.
_SESSION: Any = None


@dataclass
class RaySlot:
    """A place in Ray's queue; Ray chooses the process."""

    job: Job | None = None
    opened: Setup | None = None
    pid: int | None = None


class RayPool:
    """``address`` as for ``ray.init``; None: RAY_ADDRESS, or a cluster on this host.

    Raises :class:`BadInput` if no cluster answers.
    """

    remote = True

    def __init__(self, address: str | None, resources: Resources) -> None:
        import ray

        # Ray's messages would mix with the progress display.
        quiet = {"logging_level": "ERROR", "log_to_driver": False}
        chosen = address or os.environ.get("RAY_ADDRESS") or "auto"
        cache = os.environ.get(CACHE_VARIABLE)
        environment = {"env_vars": {CACHE_VARIABLE: str(Path(cache).resolve())}} if cache else {}
        _check_address(chosen)
        try:
            ray.init(address=chosen, runtime_env=environment, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_cluster(chosen, error) from error
        self._ray = ray
        self._needs = {"num_cpus": resources.cpus or 1, "num_gpus": resources.gpus or 0}
        if resources.memory:
            self._needs["memory"] = int(resources.memory)
        threads = max(1, round(resources.cpus or 1))
        self._remote = ray.remote(_perform).options(**self._needs, max_retries=resources.retries)
        self._threads = threads
        self._running: dict[Any, tuple[RaySlot, Job]] = {}
        self.width = self._room()
        if not self.width:
            needs = ", ".join(f"{_NAMES[name]} {amount:g}" for name, amount in self._needs.items())
            say(f"note: the Ray cluster has no room for a task ({needs}); waiting for it to grow")

    def idle(self) -> list[RaySlot]:
        """Free places: as many as the cluster has room for now, and a few for the queue."""
        self.width = self._room()
        return [RaySlot() for _ in range(max(0, self.width + _QUEUED - len(self._running)))]

    def busy(self) -> list[RaySlot]:
        """Places with a job."""
        return [slot for slot, _ in self._running.values()]

    def admits(self, slot: RaySlot, need: int) -> bool:
        """Always True: Ray starts a job when its resources are free."""
        return True

    def start(self, slot: RaySlot, job: Job, need: int = 0) -> None:
        """Hand a job to Ray."""
        slot.job = job
        self._running[self._remote.remote(job, self._threads)] = slot, job

    def wait(self, seconds: float) -> list[tuple[RaySlot, Job, Outcome]]:
        """Outcomes of finished jobs, waiting at most ``seconds`` for the first."""
        if not self._running:
            return []
        pending = list(self._running)
        ready, _ = self._ray.wait(pending, num_returns=1, timeout=seconds)
        others, _ = self._ray.wait(pending, num_returns=len(pending), timeout=0)
        return [self._ended(reference) for reference in dict.fromkeys([*ready, *others])]

    def renew(self, slot: RaySlot) -> None:
        """Does nothing: Ray manages its workers; a task with GPUs has its own process."""

    def close(self) -> None:
        """Cancel running jobs and disconnect from the cluster."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        self._ray.shutdown()

    def _ended(self, reference: Any) -> tuple[RaySlot, Job, Outcome]:
        slot, job = self._running.pop(reference)
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            # Ray has already retried ``resources.retries`` times.
            outcome = Died(f"{type(error).__name__}: {one_line(error)}", final=True)
        return slot, job, outcome

    def _room(self) -> int:
        """How many tasks the cluster can run at once now."""
        has = self._ray.cluster_resources()
        return int(min(has.get(_NAMES[name], 0.0) / amount for name, amount in self._needs.items() if amount))


def require_ray() -> None:
    """Raise :class:`BadInput` if Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise BadInput('--engine ray needs Ray: pip install "ray>=2.9"')


def _check_address(address: str) -> None:
    """Raise :class:`BadInput` if nothing listens at an address; Ray itself would retry for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> BadInput:
    hint = "start one with `ray start --head`, or give --address"
    return BadInput(f"no Ray cluster at '{address}' ({one_line(error)}); {hint}")


def _perform(job: Job, threads: int) -> Outcome:
    """On a Ray worker: do a job in a temporary folder of records, and return its files with the outcome."""
    import torch

    global _SESSION
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory(prefix="vbench-") as folder:
        if _SESSION is None:
            _SESSION = Session(Path(folder), quiet=True)
        _SESSION.recorder.store_in(Path(folder))
        outcome = perform(job, _SESSION)
        if isinstance(job, Do) and isinstance(outcome, Did):
            return replace(outcome, files=_files_in(Path(folder)))
    return outcome


def _files_in(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
