"""The step loop that gradient attacks share: objective, gradient, direction, projection, all replaceable."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vbench.errors import VbenchError
from vbench.threat import ThreatModel

#: Images (N x 3 x H x W) -> one value per image (N) that the attacker wants to raise.
Objective = Callable[[Tensor], Tensor]

#: Images or gradients -> the same shape: what a step sees of the image, or makes of the gradient.
Transform = Callable[[Tensor], Tensor]


def input_gradient(objective: Objective, images: Tensor) -> Tensor:
    """Gradient of the summed objective with respect to the images, same shape.

    Values are summed, never averaged, so that an image's gradient does not depend on its batch. Raises
    :class:`VbenchError` on a non-finite value or gradient.
    """
    variable = images.detach().requires_grad_(True)
    with torch.enable_grad():
        value = objective(variable).sum()
        (gradient,) = torch.autograd.grad(value, variable)
    if not all_finite(value, gradient):
        raise VbenchError("the attack's objective or its gradient is not finite")
    return gradient


def all_finite(*tensors: Tensor) -> bool:
    """Whether every value is finite; one pass over each tensor and one wait for the device.

    A sum is not finite as soon as one term is not; values whose sum overflows count as infinite.
    """
    return bool(torch.isfinite(torch.stack([tensor.detach().sum() for tensor in tensors])).all())


def unit_magnitude(gradient: Tensor) -> Tensor:
    """Each row of N x ... gradients brought to a mean magnitude of one; a row of zeros stays zero."""
    size = gradient.abs().flatten(1).mean(1).view(-1, *[1] * (gradient.ndim - 1))
    return gradient / size.clamp_min(torch.finfo(gradient.dtype).tiny)


def accumulate(velocity: Tensor, gradient: Tensor, momentum: float) -> Tensor:
    """Momentum over gradients brought to unit mean magnitude per image (Dong et al. 2018, equation 6)."""
    return momentum * velocity + unit_magnitude(gradient)


def direction(velocity: Tensor, norm: str) -> Tensor:
    """Steepest ascent under a norm: the sign for L_inf, the unit vector per image for L2."""
    if norm == "linf":
        return velocity.sign()
    tiny = torch.finfo(velocity.dtype).tiny
    return velocity / velocity.flatten(1).norm(dim=1).clamp_min(tiny).view(-1, 1, 1, 1)


def look_ahead(velocity: Tensor, reach: float, norm: str) -> Tensor:
    """Where momentum leads from here, as a change of the image (Lin et al. 2020, equation 6).

    ``reach`` is step size times momentum. For L2, where a step is a length, a velocity of unit mean magnitude
    is brought to about unit length first.
    """
    if norm == "linf":
        return reach * velocity
    return reach * velocity / velocity[0].numel() ** 0.5


def ascend(
    images: Tensor,
    start: Tensor,
    objective: Objective,
    threat: ThreatModel,
    steps: int,
    step_size: float,
    momentum: float = 0.0,
    *,
    nesterov: bool = False,
    view: Transform | None = None,
    smooth: Transform | None = None,
) -> Tensor:
    """Climb ``objective`` from ``start`` inside the budget around ``images``.

    ``step_size`` is in [0, 1] pixel units (for L2: length of a step). ``nesterov`` takes each gradient where
    the momentum alone would lead; ``view`` is what the objective sees of an image, called once a step;
    ``smooth`` is applied to the gradient. Returns float images, projected after each step but not rounded.
    """
    seen = objective if view is None else lambda candidate: objective(view(candidate))
    current = threat.project(images, start)
    velocity = torch.zeros_like(images)
    for _ in range(steps):
        point = current + look_ahead(velocity, step_size * momentum, threat.norm) if nesterov else current
        gradient = input_gradient(seen, point)
        gradient = gradient if smooth is None else smooth(gradient)
        # Without momentum the size that accumulate() gives a gradient would change no direction.
        velocity = accumulate(velocity, gradient, momentum) if momentum else gradient
        current = threat.project(images, current + step_size * direction(velocity, threat.norm))
    return current.detach()
