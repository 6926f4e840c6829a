"""The Ray engine: the same jobs on a running Ray cluster. Ray is imported only if it is used.

Hosts need not share a disk with the driver: the files of a run are returned with its outcome, and only the
driver writes records.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import tempfile
from collections.abc import Collection, Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vbench.core.errors import BadInput
from vbench.core.files import CACHE_VARIABLE
from vbench.core.progress import say
from vbench.run.session import Session
from vbench.sweep.engine import Died, Done, Job, Outcome
from vbench.sweep.suite import Resources
from vbench.sweep.worker import one_short_line as one_line
from vbench.sweep.worker import perform

#: Workers that wait in Ray's own queue, so that a cluster can see that it should grow.
_QUEUED = 1
_ANSWER_SECONDS = 10.0
_NAMES = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}


@dataclass(eq=False)
class RaySlot:
    """A place for one worker, a Ray actor; Ray chooses its host."""

    actor: Any = None
    job: Job | None = None
    group: Hashable = None
    pid: int | None = None


class RayPool:
    """``address`` as for ``ray.init``; None: RAY_ADDRESS, or a cluster on this host.

    ``known``: ids of records that need not be made again. Raises :class:`BadInput` if no cluster answers.
    """

    def __init__(self, address: str | None, resources: Resources, known: Collection[str] = ()) -> None:
        import ray

        chosen = address or os.environ.get("RAY_ADDRESS") or "auto"
        cache = os.environ.get(CACHE_VARIABLE)
        environment = {"env_vars": {CACHE_VARIABLE: str(Path(cache).resolve())}} if cache else {}
        _check_address(chosen)
        try:
            # Ray's messages would mix with the progress display.
            ray.init(chosen, runtime_env=environment, logging_level=logging.ERROR, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_cluster(chosen, error) from error
        self._ray = ray
        self._needs = {"num_cpus": resources.cpus or 1, "num_gpus": resources.gpus or 0}
        if resources.memory:
            self._needs["memory"] = int(resources.memory)
        threads = max(1, round(resources.cpus or 1))
        worker = ray.remote(_Worker).options(**self._needs)
        self._new_worker = lambda: worker.remote(threads, frozenset(known))
        self._slots: list[RaySlot] = []
        self._running: dict[Any, tuple[RaySlot, Job]] = {}
        self.width = self._room()
        if not self.width:
            needs = ", ".join(f"{_NAMES[name]} {amount:g}" for name, amount in self._needs.items())
            say(f"note: the Ray cluster has no room for a task ({needs}); waiting for it to grow")

    def idle(self) -> list[RaySlot]:
        """Free places: as many as the cluster has room for now, and one for the queue."""
        self.width = self._room()
        missing = self.width + _QUEUED - len(self._slots)
        self._slots += [RaySlot() for _ in range(missing)]
        return [slot for slot in self._slots if slot.job is None]

    def busy(self) -> list[RaySlot]:
        """Places with a job."""
        return [slot for slot in self._slots if slot.job is not None]

    def admits(self, slot: RaySlot, need: int) -> bool:
        """Always True: Ray starts a worker when its resources are free."""
        return True

    def start(self, slot: RaySlot, job: Job, need: int = 0) -> None:
        """Hand a job to the worker of a slot."""
        slot.actor = slot.actor or self._new_worker()
        slot.job = job
        self._running[slot.actor.perform.remote(job)] = slot, job

    def wait(self, seconds: float) -> list[tuple[RaySlot, Job, Outcome]]:
        """Outcomes of finished jobs, waiting at most ``seconds`` for the first."""
        for slot in self._slots:
            if slot.job is None:
                # There is no job for it: its resources are for those in the queue.
                self.renew(slot)
        if not self._running:
            return []
        pending = list(self._running)
        ready, _ = self._ray.wait(pending, num_returns=1, timeout=seconds)
        others, _ = self._ray.wait(pending, num_returns=len(pending), timeout=0)
        return [self._ended(reference) for reference in dict.fromkeys([*ready, *others])]

    def renew(self, slot: RaySlot) -> None:
        """End a worker; the next job of its slot gets another."""
        if slot.actor is not None:
            self._ray.kill(slot.actor)
        slot.actor = slot.group = None

    def close(self) -> None:
        """End all workers and disconnect from the cluster."""
        for slot in self._slots:
            self.renew(slot)
            slot.job = None
        self._ray.shutdown()

    def _ended(self, reference: Any) -> tuple[RaySlot, Job, Outcome]:
        slot, job = self._running.pop(reference)
        slot.job = None
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            outcome = Died(f"{type(error).__name__}: {one_line(error)}")
            self.renew(slot)
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


class _Worker:
    """On a host of the cluster: does jobs with one session, so that a victim is opened once for a group."""

    def __init__(self, threads: int, known: Collection[str]) -> None:
        import torch

        torch.set_num_threads(threads)
        self._known = known
        self._session: Session | None = None

    def perform(self, job: Job) -> Outcome:
        """Do a job in a temporary folder of records, and return its files with the outcome."""
        with tempfile.TemporaryDirectory(prefix="vbench-") as name:
            folder = Path(name)
            self._session = self._session or Session(folder, quiet=True)
            self._session.recorder.store_in(folder)
            outcome = perform(job, self._session, self._known)
            if not isinstance(outcome, Done):
                return outcome
            paths = [path for path in folder.rglob("*") if path.is_file()]
            files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
            return replace(outcome, files=files)
