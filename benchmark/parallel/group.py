"""The processes of one run: which one this is, and how they meet.

All run the same program. Before anything passes between them they meet: each says where it is and whether
it goes on. So a failure reaches the others where they wait for one that will not come, and processes that
have come apart are found out before they mix up their tensors. Meetings go over the CPU and wait for no GPU.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any

import torch
import torch.distributed as dist

from vbench.errors import VbenchError
from vbench.parallel.launch import Place

#: How long the processes look for each other, and how long one waits while another trains or decodes. One
#: that dies closes its connections, which ends the waiting at once.
_SEARCH = timedelta(minutes=10)
_PATIENCE = timedelta(days=7)

#: What a process says at a meeting; any other number is the exit code of its failure.
FINE, SHORT_OF_MEMORY = 0, -1


class PeerFailed(VbenchError):
    """The run is over for all processes. ``explained``: one that failed says why itself."""

    def __init__(self, message: str, exit_code: int = 1, explained: bool = False) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.explained = explained


class MemoryShort(torch.cuda.OutOfMemoryError):
    """A process ran out of memory, and all know it."""


_place = Place(0, 1, 0, 1)
_group: Any = None
_serials: Iterator[int] = count()


def start(place: Place) -> None:
    """Join the other processes of the run; raises :class:`VbenchError` when they cannot be found."""
    global _place, _group, _serials
    # Tensors on GPUs travel over NCCL, meetings and everything on CPUs over gloo.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, timeout=_SEARCH)
        _group = dist.new_group(backend=backend, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise VbenchError(f"the processes of this run did not find each other: {reason}") from error
    _place, _serials = place, count()


def stop() -> None:
    """Leave the group; this process is on its own again."""
    global _place, _group
    _place, _group = Place(0, 1, 0, 1), None
    if dist.is_initialized():
        dist.destroy_process_group()


def place() -> Place:
    """Which process this is."""
    return _place


def group() -> Any:
    """The process group of torch."""
    return _group


def processes() -> int:
    """How many processes work on this run; 1 without torchrun."""
    return _place.size


def leads() -> bool:
    """Whether this process is the one that writes records and speaks."""
    return _place.rank == 0


def serial() -> int:
    """A new number at every call, the same on all processes that call it as often."""
    return next(_serials)


def meet(where: str) -> None:
    """Go on when every process is here, ``where`` naming the place in the program.

    Raises :class:`PeerFailed` when another one has failed or is elsewhere, :class:`MemoryShort` when another
    one ran out of memory.
    """
    _judge(_gathered(FINE, where), where)


def part(status: int) -> list[int]:
    """Tell the others, where they meet next, that this process failed; what each of them says there."""
    return [said for said, _ in _gathered(status, "")]


@contextmanager
def together() -> Iterator[None]:
    """Work that all processes finish, or none: if one runs out of memory, all raise :class:`MemoryShort`."""
    if processes() == 1:
        yield
        return
    short = False
    try:
        yield
    except MemoryShort:
        raise
    except torch.cuda.OutOfMemoryError:
        short = True
    where = "the end of a piece of work"
    _judge(_gathered(SHORT_OF_MEMORY if short else FINE, where), where)


@contextmanager
def one_first() -> Iterator[None]:
    """Work that one process of each machine does before the others, which then find it done."""
    waits = _place.local_rank > 0
    if processes() > 1 and waits:
        meet("something prepared once")
    yield
    if processes() > 1 and not waits:
        meet("something prepared once")


def _gathered(status: int, where: str) -> list[tuple[int, int]]:
    own = torch.tensor([status, zlib.crc32(where.encode())])
    said = [torch.empty_like(own) for _ in range(processes())]
    try:
        dist.all_gather(said, own, group=_group)
    except RuntimeError as error:
        raise PeerFailed("another process of this run is gone; finished runs are kept") from error
    return [tuple(one.tolist()) for one in said]


def _judge(said: list[tuple[int, int]], where: str) -> None:
    statuses = [status for status, _ in said]
    failed = [status for status in statuses if status not in (FINE, SHORT_OF_MEMORY)]
    if failed:
        rank = statuses.index(failed[0])
        raise PeerFailed(f"process {rank} of this run failed", failed[0], explained=True)
    if SHORT_OF_MEMORY in statuses:
        raise MemoryShort(f"process {statuses.index(SHORT_OF_MEMORY)} is out of memory")
    if len({tag for _, tag in said}) > 1:
        raise PeerFailed(f"the processes of this run have come apart: this one is at {where}, another is not")
