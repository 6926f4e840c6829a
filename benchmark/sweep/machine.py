"""How many workers this machine is good for, and what each of them gets."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from vbench.errors import BadInput
from vbench.sweep.entries import Resources


@dataclass(frozen=True)
class Shares:
    """``gpus``: what CUDA_VISIBLE_DEVICES is set to, dealt out in turn; empty: left as it is."""

    jobs: int
    threads: int
    gpus: list[str]
    note: str = ""


def shares(resources: Resources, jobs: int | None, device: str, tasks: int) -> Shares:
    """Split cores and GPUs among workers.

    With GPUs there is a worker for each (or as many as ``gpus`` of a task leave room for), without one for
    each core, and never more than there are tasks. ``jobs`` may ask for another number, on GPUs for fewer.
    Threads are ``cpus`` of a task, OMP_NUM_THREADS if that is set, or the cores split evenly.
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
    """GPUs in groups of ``each``; what is left over stays unused."""
    if gpus and len(gpus) < each:
        raise BadInput(f"a task needs {each} GPUs, and there are {len(gpus)}")
    return [",".join(gpus[start : start + each]) for start in range(0, len(gpus) - each + 1, each)]


def _threads(resources: Resources, cores: int, jobs: int) -> int:
    if resources.cpus:
        return max(1, round(resources.cpus))
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) else max(1, cores // jobs)


def core_count() -> int:
    """Cores that this process may use, which a batch job may have fewer of than the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Names of the GPUs that torch may use, as CUDA_VISIBLE_DEVICES takes them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = [name.strip() for name in named.split(",")] if named else [str(index) for index in range(count)]
    return names[:count]
