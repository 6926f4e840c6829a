"""Counting what an attack costs: images sent forward for a gradient, seconds, memory."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import nn

from vbench.resident import resident_peak
from vbench.victims.base import VictimOutput, example_tensor


@dataclass
class Meter:
    """Counts while its ``with`` block runs; a block that ends in an error counts for nothing but time.

    ``evaluations``: images that passed the victim with gradients on; ``forwards``: images that passed
    without. An image counts as often as an edit forks it. ``seconds``: wall clock. ``peak_memory``, bytes: on
    a GPU the most that tensors took inside the block beyond what was there when it began; on a CPU, where
    nobody counts tensors, the most that the whole process held inside the block.
    """

    victim: nn.Module
    evaluations: int = 0
    forwards: int = 0
    seconds: float = 0.0
    peak_memory: int = 0
    _handle: Any = field(default=None, repr=False)
    _started: float = field(default=0.0, repr=False)
    _before: tuple[int, int] = field(default=(0, 0), repr=False)
    _held: int = field(default=0, repr=False)
    _sampling: ExitStack = field(default_factory=ExitStack, repr=False)
    _sampled: list[int] = field(default_factory=list, repr=False)

    def __enter__(self) -> Meter:
        self._handle = self.victim.register_forward_hook(self._count)
        self._before = self.evaluations, self.forwards
        device = example_tensor(self.victim).device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self._held = torch.cuda.memory_allocated(device)
        else:
            self._sampled = self._sampling.enter_context(resident_peak())
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.remove()
        device = example_tensor(self.victim).device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.seconds += time.perf_counter() - self._started
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(device) - self._held
        else:
            self._sampling.close()
            peak = self._sampled[0]
        self.peak_memory = max(self.peak_memory, peak)
        if error is not None:
            self.evaluations, self.forwards = self._before

    def _count(self, module: nn.Module, inputs: tuple[Any, ...], output: VictimOutput) -> None:
        if torch.is_grad_enabled():
            self.evaluations += len(output.embedding)
        else:
            self.forwards += len(output.embedding)
