"""Several processes of one run: which one, meet, agree."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from vbench.core.errors import BadInput, VbenchError
from vbench.core.launch import Place

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


def is_main() -> bool:
    """Whether this process is the one that writes records and speaks."""
    return _place.rank == 0


def serial() -> int:
    """A new number at every call, the same on all processes that call it as often."""
    return next(_serials)


def barrier(where: str) -> None:
    """Go on when every process is here, ``where`` naming the place in the program.

    Raises :class:`PeerFailed` when another one has failed or is elsewhere, :class:`MemoryShort` when another
    one ran out of memory.
    """
    _judge(_gathered(FINE, where), where)


def report_failure(status: int) -> list[int]:
    """Tell the others, where they meet next, that this process failed; what each of them says there."""
    return [said for said, _ in _gathered(status, "")]


@contextmanager
def all_or_none() -> Iterator[None]:
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
def main_first() -> Iterator[None]:
    """Work that one process of each machine does before the others, which then find it done."""
    waits = _place.local_rank > 0
    if processes() > 1 and waits:
        barrier("something prepared once")
    yield
    if processes() > 1 and not waits:
        barrier("something prepared once")


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


T = TypeVar("T")


def all_gather(tensors: Sequence[Tensor], where: str) -> list[list[Tensor]]:
    """Each tensor as every process has it, in their order; shapes and types must be the same on all."""
    # Bytes, because not every backend knows every type. Memory is taken before the meeting: nobody may run
    # out of it where the others already wait for a tensor.
    own = [tensor.detach().contiguous().view(-1).view(torch.uint8) for tensor in tensors]
    found = [[torch.empty_like(one) for _ in range(processes())] for one in own]
    barrier(f"{where} {[(str(tensor.dtype), tuple(tensor.shape)) for tensor in tensors]}")
    for one, copies in zip(own, found, strict=True):
        if one.numel():
            dist.all_gather(copies, one, group=group())
    return [
        [copy.view(tensor.dtype).view(tensor.shape) for copy in copies]
        for tensor, copies in zip(tensors, found, strict=True)
    ]


def all_reduce(gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Gradients of what an edit applies inside the victim, added up over the processes.

    An edit meets the images of its own process alone, so that each process holds only its part of such a
    gradient. Added in the order of processes: all get the same bits.
    """
    if processes() == 1:
        return list(gradients)
    present = [gradient for gradient in gradients if gradient is not None]
    totals = iter([torch.stack(parts).sum(0) for parts in all_gather(present, "gradients to add up")])
    return [None if gradient is None else next(totals) for gradient in gradients]


def broadcast(gradients: Sequence[Tensor]) -> list[Tensor]:
    """Process 0's version of gradients that every process computes whole.

    On a GPU the same sum can differ in its last bits, and a sign turns that into a whole step.
    """
    if processes() == 1:
        return list(gradients)
    own = [gradient.detach().contiguous().clone() for gradient in gradients]
    barrier(f"gradients to agree on {[tuple(one.shape) for one in own]}")
    for one in own:
        dist.broadcast(one, 0, group=group())
    return own


def from_main(find: Callable[[], T]) -> T:
    """What ``find`` returns on process 0, which alone calls it; for whatever clocks and disks decide."""
    if processes() == 1:
        return find()
    found: list[T | None] = [find() if is_main() else None]
    barrier("something process 0 finds out")
    dist.broadcast_object_list(found, 0, group=group(), device=torch.device("cpu"))
    return cast(T, found[0])  # by now process 0's on all


def check_equal(what: str, text: str) -> None:
    """Raise :class:`VbenchError` unless ``text`` is the same on every process."""
    if processes() == 1:
        return
    found: list[str] = [""] * processes()
    barrier(f"a comparison of {what}")
    dist.all_gather_object(found, text, group=group())
    if len(set(found)) > 1:
        others = ", ".join(str(rank) for rank, one in enumerate(found) if one != found[0])
        raise VbenchError(f"{what}: processes 0 and {others} of {len(found)} do not hold the same")


def own_device(device: str) -> str:
    """``device`` as it is on a single process; on several, "auto" and "cuda" are a GPU for each.

    Raises :class:`BadInput` for a GPU by number, and for more processes than GPUs on this machine.
    """
    gpus, here = torch.cuda.device_count(), place().local_size
    if processes() == 1 or device == "cpu" or not gpus:
        return device
    if device not in ("auto", "cuda"):
        raise BadInput(f"device '{device}': each process of a run takes its own; use auto, cuda or cpu")
    if here > gpus:
        raise BadInput(
            f"{here} processes for {gpus} GPU{'s' * (gpus > 1)} on this machine; start torchrun with "
            f"--nproc-per-node {gpus}, or use --device cpu"
        )
    # NCCL and some libraries work on the current device whatever their tensors say.
    torch.cuda.set_device(place().local_rank)
    return f"cuda:{place().local_rank}"
