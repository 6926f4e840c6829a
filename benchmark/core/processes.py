"""The process group of a run started by torchrun: rank, barrier, all_gather, all_reduce, broadcast."""

from __future__ import annotations

import os
import platform
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from vbench.core.errors import BadInput, VbenchError
from vbench.core.launch import Place
from vbench.core.progress import say, track

#: Time limits for connecting, and for waiting while another process trains or decodes. A process that dies
#: closes its connections, which ends the waiting at once.
_CONNECT_TIMEOUT = timedelta(minutes=10)

_WAIT_TIMEOUT = timedelta(days=7)

#: Status of a process at a barrier; any other number is the exit code of its failure.
FINE, SHORT_OF_MEMORY = 0, -1


class PeerFailed(VbenchError):
    """The run has failed on all processes. ``explained``: the process that failed prints the reason."""

    def __init__(self, message: str, exit_code: int = 1, explained: bool = False) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.explained = explained


class MemoryShort(torch.cuda.OutOfMemoryError):
    """Raised on all processes after one of them ran out of memory."""


_place = Place(0, 1, 0, 1)

_group: Any = None

#: Whether this process sees a single GPU, and no other process of its machine is shown the same.
_own_gpu = False

_serials: Iterator[int] = count()


def start(place: Place) -> None:
    """Join the process group; raises :class:`VbenchError` if the others cannot be reached."""
    global _place, _group, _serials, _own_gpu
    # GPU tensors are exchanged over NCCL, barriers and CPU tensors over gloo.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, timeout=_CONNECT_TIMEOUT)
        _group = dist.new_group(backend=backend, timeout=_WAIT_TIMEOUT)
        own = platform.node(), os.environ.get("CUDA_VISIBLE_DEVICES")
        seen: list[tuple[str, str | None]] = [own] * place.size
        dist.all_gather_object(seen, own, group=_group)
        _own_gpu = torch.cuda.device_count() == 1 and seen.count(own) == 1
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise VbenchError(f"the processes of this run did not find each other: {reason}") from error
    _place, _serials = place, count()


def stop() -> None:
    """Leave the process group; this process then runs alone."""
    global _place, _group
    _place, _group = Place(0, 1, 0, 1), None
    if dist.is_initialized():
        dist.destroy_process_group()


def place() -> Place:
    """Rank and world size of this process."""
    return _place


def group() -> Any:
    """torch's process group of the run; None if the process runs alone."""
    return _group


def processes() -> int:
    """How many processes work on this run; 1 without torchrun."""
    return _place.size


def is_main() -> bool:
    """Whether this is the main process, which writes records and prints."""
    return _place.rank == 0


def serial() -> int:
    """The number of calls so far, so the n-th call returns the same number on every process."""
    return next(_serials)


def barrier(where: str) -> None:
    """Wait until every process is at the barrier named ``where``.

    Raises :class:`PeerFailed` if another one has failed or is at a different barrier, :class:`MemoryShort` if
    another one ran out of memory.
    """
    _check(_gathered(FINE, where), where)


#: How the libraries below torch say, as a plain RuntimeError, that memory ran out: cuBLAS and cuDNN allocate
#: on their own, and without room for a workspace cuDNN finds no way to compute.
_NO_MEMORY = (
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "unable to find an engine to execute this computation",
)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raise ``torch.cuda.OutOfMemoryError`` also where memory ran out in cuBLAS, cuDNN or the driver."""
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if any(said in str(error) for said in _NO_MEMORY):
            raise torch.cuda.OutOfMemoryError(str(error)) from error
        raise


def report_failure(status: int) -> list[int]:
    """Report at the others' next barrier that this process failed; returns the status of every process."""
    return [each for each, _ in _gathered(status, "")]


@contextmanager
def all_or_none() -> Iterator[None]:
    """If one process runs out of memory inside the block, all raise :class:`MemoryShort`."""
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
    where = "the end of a batch"
    _check(_gathered(SHORT_OF_MEMORY if short else FINE, where), where)


@contextmanager
def main_first() -> Iterator[None]:
    """Run the block on one process of each machine first; the others then find its result in the cache."""
    waits = _place.local_rank > 0
    if processes() > 1 and waits:
        barrier("work done once per machine")
    yield
    if processes() > 1 and not waits:
        barrier("work done once per machine")


def _gathered(status: int, where: str) -> list[tuple[int, int]]:
    """Status and hash of ``where`` of every process, by rank."""
    own = torch.tensor([status, zlib.crc32(where.encode())])
    found = [torch.empty_like(own) for _ in range(processes())]
    try:
        dist.all_gather(found, own, group=_group)
    except RuntimeError as error:
        raise PeerFailed("another process of this run is gone; finished runs are kept") from error
    return [tuple(one.tolist()) for one in found]


def _check(gathered: list[tuple[int, int]], where: str) -> None:
    statuses = [status for status, _ in gathered]
    failed = [status for status in statuses if status not in (FINE, SHORT_OF_MEMORY)]
    if failed:
        rank = statuses.index(failed[0])
        raise PeerFailed(f"process {rank} of this run failed", failed[0], explained=True)
    if SHORT_OF_MEMORY in statuses:
        raise MemoryShort(f"process {statuses.index(SHORT_OF_MEMORY)} is out of memory")
    if len({tag for _, tag in gathered}) > 1:
        raise PeerFailed(f"the processes of this run are out of step: this one is at {where}, another is not")


T = TypeVar("T")


def all_gather(tensors: Sequence[Tensor], where: str) -> list[list[Tensor]]:
    """For each tensor its values on every process, by rank; shapes and types must be the same on all."""
    # As bytes, because not every backend supports every type. Memory is allocated before the barrier, so that
    # no process runs out of it while the others already wait for a tensor.
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
    """Gradients of the values that an edit applies inside the victim, summed over the processes.

    An edit is applied to the images of its own process only, so each process holds a part of the gradient.
    Parts are added in the order of ranks, so all processes get the same bits.
    """
    if processes() == 1:
        return list(gradients)
    present = [gradient for gradient in gradients if gradient is not None]
    totals = iter([torch.stack(parts).sum(0) for parts in all_gather(present, "gradients to add up")])
    return [None if gradient is None else next(totals) for gradient in gradients]


def broadcast(gradients: Sequence[Tensor]) -> list[Tensor]:
    """The main process's gradients, where every process computes all of them.

    On GPUs the same sum can differ in its last bits, which taking its sign turns into a whole step.
    """
    if processes() == 1:
        return list(gradients)
    own = [gradient.detach().contiguous().clone() for gradient in gradients]
    barrier(f"gradients to agree on {[tuple(one.shape) for one in own]}")
    for one in own:
        dist.broadcast(one, 0, group=group())
    return own


def from_main(find: Callable[[], T]) -> T:
    """What ``find`` returns on the main process, which alone calls it: it may depend on clocks or disks."""
    if processes() == 1:
        return find()
    found: list[T | None] = [find() if is_main() else None]
    barrier("a broadcast from process 0")
    dist.broadcast_object_list(found, 0, group=group(), device=torch.device("cpu"))
    return cast(T, found[0])  # broadcast, so set on all


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
    """``device`` unchanged on a single process; on several, "auto" and "cuda" give each its own GPU.

    On several processes, raises :class:`BadInput` for a GPU by number, and for more processes than GPUs.
    """
    gpus, here = torch.cuda.device_count(), place().local_size
    if processes() == 1 or device == "cpu" or not gpus:
        return device
    if device not in ("auto", "cuda"):
        raise BadInput(f"device '{device}': each process of a run takes its own; use auto, cuda or cpu")
    if here > gpus and not _own_gpu:
        raise BadInput(
            f"{here} processes for {gpus} GPU{'s' * (gpus > 1)} on this machine; start torchrun with "
            f"--nproc-per-node {gpus}, or use --device cpu"
        )
    # NCCL and some libraries use the current device, not that of their tensors.
    index = 0 if _own_gpu else place().local_rank
    torch.cuda.set_device(index)
    return f"cuda:{index}"


@dataclass
class Batches:
    """Splits a range of images into batches as large as memory allows, at most ``size``::

        for rows in batches.tracked(1000):
            with batches.retried():
                work(rows)

    ``what`` names the work in the progress and in the message printed when the batch is halved. A halved size
    stays for later ranges.
    """

    what: str
    size: int
    quiet: bool = False
    _short: bool = field(default=False, init=False)

    def over(self, rows: range) -> Iterator[slice]:
        """Consecutive slices that cover ``rows``, the one that ran out of memory again in smaller ones.

        Raises :class:`VbenchError` if memory does not suffice for one image.
        """
        start = rows.start
        while start < rows.stop:
            part = slice(start, min(start + self.size, rows.stop))
            self._short = False
            yield part
            if self._short:
                self._halve(part.stop - part.start)
            else:
                start = part.stop

    def tracked(self, count: int) -> Iterator[slice]:
        """The slices of :meth:`over` that cover ``count`` images, with progress."""
        step = self.size
        for start in track(range(0, count, step), self.what, quiet=self.quiet):
            yield from self.over(range(start, min(start + step, count)))

    @contextmanager
    def retried(self) -> Iterator[None]:
        """A block that ends early on out-of-memory, on all processes if on one, and is then done again.

        It must have no side effects unless it succeeds.
        """
        try:
            with all_or_none():
                yield
        except torch.cuda.OutOfMemoryError:
            # Halved later, since the error's frames keep the tensors that filled the memory alive.
            self._short = True

    def _halve(self, count: int) -> None:
        if count == 1:
            raise VbenchError(f"{self.what}: out of memory with a single image; use another device")
        self.size = count // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        say(f"{self.what}: out of memory with {count} images at a time, now {self.size}", self.quiet)
