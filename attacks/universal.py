"""What universal attacks share: the budget of gradient evaluations and the signed-momentum update."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vbench.attacks.steps import accumulate, all_finite
from vbench.errors import BadInput, VbenchError
from vbench.parallel.exchange import agreed
from vbench.progress import track
from vbench.threat import ThreatModel

#: Perturbation (1 x 3 x H x W, or one copy for each image of a batch; requires grad) -> scalar that the
#: attacker wants to raise.
UniversalObjective = Callable[[Tensor], Tensor]


def updates_for(evaluations: int, per_update: int, owner: str, before: int = 0) -> int:
    """How many updates a budget of gradient evaluations pays for, one evaluation being one image forward
    and backward through the victim; ``before`` are spent before the first one. Raises :class:`BadInput` when
    it pays for none."""
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
        (gradient,) = agreed(torch.autograd.grad(value, variable))
    if not all_finite(value, gradient):
        raise VbenchError(f"{label}: the objective or its gradient is not finite")
    return value.detach(), gradient


def refuse_unmoved(moved: bool, label: str) -> None:
    """Raise :class:`VbenchError` if no update of a fit had a gradient."""
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
