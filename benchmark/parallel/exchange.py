"""What passes between the processes of a run; everything here does nothing on a single one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from vbench.errors import VbenchError
from vbench.parallel.group import group, leads, meet, processes

T = TypeVar("T")


def everyone(tensors: Sequence[Tensor], where: str) -> list[list[Tensor]]:
    """Each tensor as every process has it, in their order; shapes and types must be the same on all."""
    # Bytes, because not every backend knows every type. Memory is taken before the meeting: nobody may run
    # out of it where the others already wait for a tensor.
    own = [tensor.detach().contiguous().view(-1).view(torch.uint8) for tensor in tensors]
    found = [[torch.empty_like(one) for _ in range(processes())] for one in own]
    meet(f"{where} {[(str(tensor.dtype), tuple(tensor.shape)) for tensor in tensors]}")
    for one, copies in zip(own, found, strict=True):
        if one.numel():
            dist.all_gather(copies, one, group=group())
    return [
        [copy.view(tensor.dtype).view(tensor.shape) for copy in copies]
        for tensor, copies in zip(tensors, found, strict=True)
    ]


def summed(gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Gradients of what an edit applies inside the victim, added up over the processes.

    An edit meets the images of its own process alone, so that each process holds only its part of such a
    gradient. Added in the order of processes: all get the same bits.
    """
    if processes() == 1:
        return list(gradients)
    present = [gradient for gradient in gradients if gradient is not None]
    totals = iter([torch.stack(parts).sum(0) for parts in everyone(present, "gradients to add up")])
    return [None if gradient is None else next(totals) for gradient in gradients]


def agreed(gradients: Sequence[Tensor]) -> list[Tensor]:
    """Process 0's version of gradients that every process computes whole.

    On a GPU the same sum can differ in its last bits, and a sign turns that into a whole step.
    """
    if processes() == 1:
        return list(gradients)
    own = [gradient.detach().contiguous().clone() for gradient in gradients]
    meet(f"gradients to agree on {[tuple(one.shape) for one in own]}")
    for one in own:
        dist.broadcast(one, 0, group=group())
    return own


def told(find: Callable[[], T]) -> T:
    """What ``find`` returns on process 0, which alone calls it; for whatever clocks and disks decide."""
    if processes() == 1:
        return find()
    found = [find() if leads() else None]
    meet("something process 0 finds out")
    dist.broadcast_object_list(found, 0, group=group(), device=torch.device("cpu"))
    return found[0]


def refuse_differences(what: str, text: str) -> None:
    """Raise :class:`VbenchError` unless ``text`` is the same on every process."""
    if processes() == 1:
        return
    found: list[str] = [""] * processes()
    meet(f"a comparison of {what}")
    dist.all_gather_object(found, text, group=group())
    if len(set(found)) > 1:
        others = ", ".join(str(rank) for rank, one in enumerate(found) if one != found[0])
        raise VbenchError(f"{what}: processes 0 and {others} of {len(found)} do not hold the same")
