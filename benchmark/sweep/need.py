"""How much memory a run may need, before it was ever measured."""

from __future__ import annotations

import psutil
import torch
from torch import nn

from vbench.attacks.base import UniversalAttack
from vbench.attacks.battery import Battery
from vbench.embed import BATCH
from vbench.runner import Run
from vbench.sandbox import contained, twin
from vbench.types import Modality
from vbench.victims.base import example_tensor, frozen
from vbench.workbench import Workbench

#: What a backward pass holds beside the maps of the forward pass.
_BACKWARD = 1.5


def estimate(run: Run) -> int:
    """Bytes of resident memory: the process as it is, training images, and a batch forward and back.

    The maps are measured on one image. On a GPU they are not in this memory and do not count.
    """
    origin = run.source or run.bench
    total = float(psutil.Process().memory_info().rss)
    if isinstance(run.attack, UniversalAttack | Battery) or "training" in run.attack.knowledge:
        dataset = origin.dataset
        images = len(dataset.train_visible) + len(dataset.train_infrared)
        height, width = origin.victim.input_size
        total += images * height * width * 3
    if example_tensor(origin.victim).device.type == "cpu":
        total += BATCH * map_bytes(origin) * _BACKWARD
    return int(total)


def map_bytes(bench: Workbench) -> int:
    """Bytes of all that the victim's layers return for one image.

    Raises :class:`VbenchError` naming the victim when its forward pass fails.
    """
    victim, total = twin(bench.victim), 0

    def count(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal total
        if isinstance(output, torch.Tensor):
            total += output.numel() * output.element_size()

    parameter = example_tensor(victim)
    image = torch.full((1, 3, *victim.input_size), 0.5, device=parameter.device, dtype=parameter.dtype)
    for module in victim.modules():
        if not any(module.children()):
            module.register_forward_hook(count)
    with contained(f"victim '{victim.name}'", seed=0), frozen(victim), torch.no_grad():
        victim(image, Modality.VISIBLE)
    return total
