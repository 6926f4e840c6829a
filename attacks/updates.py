"""The update loop of universal attacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from vbench.attacks.base import UniversalAttack
from vbench.attacks.steps import accumulate, all_finite, unit_magnitude
from vbench.attacks.training import TrainingView
from vbench.core.errors import BadInput, VbenchError
from vbench.core.processes import broadcast
from vbench.core.progress import track
from vbench.core.settings import param
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.victims.base import Victim

#: Perturbation (1 x 3 x H x W, or one copy for each image of a batch; requires grad) -> scalar that the
#: attacker wants to raise.
UniversalObjective = Callable[[Tensor], Tensor]


def updates_for(evaluations: int, per_update: int, owner: str, before: int = 0) -> int:
    """Number of updates within a budget of gradient evaluations (one: one image forward and backward through
    the victim), of which ``before`` are spent before the first update. Raises :class:`BadInput` if it is
    zero."""
    updates = (evaluations - before) // per_update
    if updates < 1:
        first = f" after the {before} that come first; give at least {before + per_update}" if before else ""
        raise BadInput(
            f"{owner}: evaluations={evaluations} is less than one update, which takes {per_update}{first}"
        )
    return updates


def small_start(
    shape: tuple[int, int, int], threat: ThreatModel, generator: torch.Generator, like: Tensor
) -> Tensor:
    """Uniform noise in a tenth of the budget, 1 x 3 x H x W, with dtype and device of ``like``."""
    draw = torch.rand((1, *shape), generator=generator, dtype=torch.float64) * 2 - 1
    return (draw * threat.epsilon / 10).to(like)


def gradient_of(objective: UniversalObjective, delta: Tensor, label: str) -> tuple[Tensor, Tensor]:
    """Value of the objective at ``delta``, and its gradient, same shape.

    Raises :class:`VbenchError` when one of them is not finite.
    """
    variable = delta.clone().requires_grad_(True)
    with torch.enable_grad():
        value = objective(variable)
        (gradient,) = broadcast(torch.autograd.grad(value, variable))
    if not all_finite(value, gradient):
        raise VbenchError(f"{label}: the objective or its gradient is not finite")
    return value.detach(), gradient


def refuse_unmoved(moved: bool, label: str) -> None:
    """Raise :class:`VbenchError` if every update of a fit had a zero gradient."""
    if not moved:
        raise VbenchError(f"{label}: the objective has no gradient with respect to the perturbation")


def learn_delta(
    shape: tuple[int, int, int],
    objective: UniversalObjective,
    threat: ThreatModel,
    generator: torch.Generator,
    updates: int,
    step_size: float,
    momentum: float,
    like: Tensor,
    label: str,
    quiet: bool,
) -> Tensor:
    """Raise ``objective`` by signed steps with momentum from a small random start; 3 x H x W, |d| <= eps.

    ``objective`` draws its own batch at each call. ``like`` gives dtype and device. Raises
    :class:`VbenchError` when the objective stops being finite or never has a gradient.
    """
    eps = threat.epsilon
    delta = small_start(shape, threat, generator, like)
    velocity = torch.zeros_like(delta)
    moved = False
    for _ in track(range(updates), label, quiet=quiet):
        _, gradient = gradient_of(objective, delta, label)
        moved = moved or bool(gradient.any())
        velocity = accumulate(velocity, gradient, momentum)
        delta = (delta + step_size * velocity.sign()).clamp(-eps, eps)
    refuse_unmoved(moved, label)
    return delta[0]


#: Number of batches on which starts are compared, forward only.
_TRIALS = 16


@dataclass(frozen=True)
class Pooling:
    """Lazy projection (Nesterov 2009; Xiao, JMLR 2010): d = clip(``rate`` * eps * pool) into the budget.

    The pool sums all gradients so far, each scaled to unit mean magnitude, so gradients at a pixel beyond its
    bound still count, which clipped steps would lose. With ``copies`` > 1 the objective takes one copy of the
    perturbation for each image of a batch, and the images' gradients are scaled to unit size before they are
    added, so that all images have equal weight.

    ``starts`` > 1 begins that many pools on ``start_share`` of the updates and continues the one whose
    objective is highest on the same few batches, because the result of a fit depends on its start.
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
        :class:`BadInput` if there are too few updates to choose a start, :class:`VbenchError` if the
        objective stops being finite or never has a gradient.
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
        """Mean objective of a pool over the next batches that the objective draws from ``generator``."""
        return sum(self.objective(self.copied(pool)).item() for _ in range(_TRIALS)) / _TRIALS

    def copied(self, pool: Tensor) -> Tensor:
        return self.delta(pool).expand(self.copies, -1, -1, -1)


@dataclass(frozen=True)
class UpdatedAttack(UniversalAttack):
    """A universal attack with a choice of updates: signed steps with momentum, or dual averaging."""

    update: Literal["sign", "pooled"] = param("sign", "signed steps with momentum, or dual averaging")
    step_size: Annotated[float, Field(gt=0)] | None = param(None, "sign: pixel units; none means eps/10")
    momentum: Annotated[float, Field(ge=0)] = param(0.9, "sign: share of the past direction that is kept")
    rate: Annotated[float, Field(gt=0)] = param(0.05, "pooled: share of the budget per update")
    votes: Literal["image", "batch"] = param("image", "pooled: whose gradients get unit size")
    starts: Annotated[int, Field(ge=1)] = param(8, "pooled: number of starts, of which the best continues")
    start_share: Annotated[float, Field(gt=0, lt=1)] = param(
        0.6, "pooled: share of the updates spent on the starts"
    )

    def climb(
        self,
        victim: Victim,
        train: TrainingView,
        objective: UniversalObjective,
        threat: ThreatModel,
        generator: torch.Generator,
        updates: int,
        images: int,
        quiet: bool,
        channels: int = 3,
    ) -> Tensor:
        """Raise ``objective`` with ``updates`` gradients of ``images`` images each; ``channels`` x H x W."""
        shape, like = (channels, *victim.input_size), train[Modality.VISIBLE].embeddings
        label = f"learning {self.name}"
        if self.update == "pooled":
            copies = images if self.votes == "image" else 1
            pooling = Pooling(self.rate, copies, self.starts, self.start_share)
            return pooling.learn(shape, objective, threat, generator, updates, like, label, quiet)
        step = self.step_size or threat.epsilon / 10
        return learn_delta(
            shape, objective, threat, generator, updates, step, self.momentum, like, label, quiet
        )


def by_modality(delta: Tensor) -> dict[Modality, Tensor]:
    """The perturbation for each modality.

    If ``delta`` holds one copy per image, the first half is visible, the second infrared.
    """
    halves = delta.chunk(2) if len(delta) > 1 else (delta, delta)
    return dict(zip(Modality, halves, strict=True))
