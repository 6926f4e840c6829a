"""Dual averaging for a shared perturbation: gradients are pooled, and d is the pool, clipped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from vbench.attacks.steps import unit_magnitude
from vbench.attacks.universal import UniversalObjective, gradient_of, refuse_unmoved, small_start
from vbench.errors import BadInput
from vbench.progress import track
from vbench.threat import ThreatModel

#: Batches that starts are compared on, forward only.
_TRIALS = 16


@dataclass(frozen=True)
class Pooling:
    """Lazy projection (Nesterov 2009; Xiao, JMLR 2010): d = clip(``rate`` * eps * pool) into the budget.

    The pool sums all gradients so far, each brought to unit mean magnitude, so that a pixel at its bound
    keeps counting where a clipped step forgets. With ``copies`` > 1 the objective takes one copy of the
    perturbation for each image of a batch, and the images' gradients are brought to unit size before they are
    added: one image, one vote.

    ``starts`` > 1 begins that many pools on ``start_share`` of the updates and goes on with the one whose
    objective is highest on the same few batches: where a fit ends depends on where it began.
    """

    rate: float
    copies: int = 1
    starts: int = 1
    start_share: float = 0.6

    def learn(
        self,
        shape: tuple[int, int, int],
        objective: UniversalObjective,
        threat: ThreatModel,
        generator: torch.Generator,
        updates: int,
        like: Tensor,
        label: str,
        quiet: bool,
    ) -> Tensor:
        """Raise ``objective`` with ``updates`` gradients in all; 3 x H x W, |d| <= eps.

        ``objective`` draws its own batch at each call. ``like`` gives dtype and device. Raises
        :class:`BadInput` for too few updates to choose a start by, :class:`VbenchError` when the objective
        stops being finite or never has a gradient.
        """
        each = int(updates * self.start_share / self.starts) if self.starts > 1 else 0
        if self.starts > 1 and each < 1:
            raise BadInput(
                f"{label}: {updates} updates are too few for {self.starts} starts; "
                "raise evaluations or set starts=1"
            )
        climb = _Climb(objective, threat, self.rate * threat.epsilon, self.copies, label)
        steps = track(range(updates), label, quiet=quiet)

        def beginning() -> Tensor:
            return small_start(shape, threat, generator, like) / climb.scale

        pool = beginning()
        if each:
            pools = [climb.run(pool, islice(steps, each))]
            pools += [climb.run(beginning(), islice(steps, each)) for _ in range(self.starts - 1)]
            state = generator.get_state()
            heights = [climb.height(pool, generator.set_state(state)) for pool in pools]
            pool = pools[heights.index(max(heights))]
        pool = climb.run(pool, steps)
        refuse_unmoved(climb.moved, label)
        return climb.delta(pool)[0]


@dataclass
class _Climb:
    objective: UniversalObjective
    threat: ThreatModel
    scale: float
    copies: int
    label: str
    moved: bool = False

    def delta(self, pool: Tensor) -> Tensor:
        return (pool * self.scale).clamp(-self.threat.epsilon, self.threat.epsilon)

    def run(self, pool: Tensor, steps: Iterable[int]) -> Tensor:
        """The pool after ``steps`` more updates."""
        for _ in steps:
            _, gradient = gradient_of(self.objective, self.copied(pool), self.label)
            self.moved = self.moved or bool(gradient.any())
            votes = unit_magnitude(gradient).sum(0, keepdim=True)
            pool = pool + unit_magnitude(votes)
        return pool

    @torch.no_grad()
    def height(self, pool: Tensor, generator: torch.Generator) -> float:
        """Mean objective of a pool over the batches that ``generator``, which the objective draws from,
        yields next."""
        return sum(self.objective(self.copied(pool)).item() for _ in range(_TRIALS)) / _TRIALS

    def copied(self, pool: Tensor) -> Tensor:
        return self.delta(pool).expand(self.copies, -1, -1, -1)
