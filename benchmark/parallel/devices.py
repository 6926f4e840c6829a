"""Which device a process of a run computes on."""

from __future__ import annotations

import torch

from vbench.errors import BadInput
from vbench.parallel.group import place, processes


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
