"""The step loop: gradient, momentum, projection, restarts, diversity, smoothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from vbench.attacks.base import Context, PerImageAttack
from vbench.core.errors import BadInput, VbenchError
from vbench.core.seeds import hashed
from vbench.core.settings import param
from vbench.core.threat import ThreatModel
from vbench.victims.base import Victim

#: Images (N x 3 x H x W) -> one value per image (N) that the attacker wants to raise.
Objective = Callable[[Tensor], Tensor]

#: Images or gradients -> the same shape: transforms the input or the gradient of a step.
Transform = Callable[[Tensor], Tensor]


def input_gradient(objective: Objective, images: Tensor) -> Tensor:
    """Gradient of the summed objective with respect to the images, same shape.

    Values are summed, not averaged, so that an image's gradient does not depend on its batch. Raises
    :class:`VbenchError` for a non-finite value or gradient.
    """
    variable = images.detach().requires_grad_(True)
    with torch.enable_grad():
        value = objective(variable).sum()
        (gradient,) = torch.autograd.grad(value, variable)
    if not all_finite(value, gradient):
        raise VbenchError("the attack's objective or its gradient is not finite")
    return gradient


def all_finite(*tensors: Tensor) -> bool:
    """Whether every value is finite, in one pass over each tensor and one device synchronisation.

    A sum is not finite as soon as one term is not; values whose sum overflows count as infinite.
    """
    return bool(torch.isfinite(torch.stack([tensor.detach().sum() for tensor in tensors])).all())


def unit_magnitude(gradient: Tensor) -> Tensor:
    """N x ... gradients, each row scaled to a mean magnitude of one; a row of zeros stays zero."""
    size = gradient.abs().flatten(1).mean(1).view(-1, *[1] * (gradient.ndim - 1))
    return gradient / size.clamp_min(torch.finfo(gradient.dtype).tiny)


def accumulate(velocity: Tensor, gradient: Tensor, momentum: float) -> Tensor:
    """Momentum over gradients scaled to unit mean magnitude per image (Dong et al. 2018, equation 6)."""
    return momentum * velocity + unit_magnitude(gradient)


def direction(velocity: Tensor, norm: str) -> Tensor:
    """Steepest ascent under a norm: the sign for L_inf, the unit vector per image for L2."""
    if norm == "linf":
        return velocity.sign()
    tiny = torch.finfo(velocity.dtype).tiny
    return velocity / velocity.flatten(1).norm(dim=1).clamp_min(tiny).view(-1, 1, 1, 1)


def look_ahead(velocity: Tensor, reach: float, norm: str) -> Tensor:
    """The change of the image by momentum alone (Lin et al. 2020, equation 6).

    ``reach`` is step size times momentum. For L2, where a step is a length, a velocity of unit mean magnitude
    is scaled to about unit length first.
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

    ``step_size`` is in [0, 1] pixel units (for L2: length of a step). ``nesterov`` takes each gradient at the
    point that momentum alone would reach; ``view`` transforms the images for the objective, once per step;
    ``smooth`` is applied to the gradient. Returns float images, projected after each step but not rounded.
    """
    seen = objective if view is None else lambda candidate: objective(view(candidate))
    current = threat.project(images, start)
    velocity = torch.zeros_like(images)
    for _ in range(steps):
        point = current + look_ahead(velocity, step_size * momentum, threat.norm) if nesterov else current
        gradient = input_gradient(seen, point)
        gradient = gradient if smooth is None else smooth(gradient)
        # Without momentum the scaling of accumulate() would not change the direction.
        velocity = accumulate(velocity, gradient, momentum) if momentum else gradient
        current = threat.project(images, current + step_size * direction(velocity, threat.norm))
    return current.detach()


def best_of(
    attempts: int, craft: Callable[[int], Tensor], objective: Objective, images: Tensor, threat: ThreatModel
) -> Tensor:
    """The best of ``craft(0)`` ... ``craft(attempts - 1)``, image by image; N x 3 x H x W, in budget.

    They are compared as the victim will see them, inside the budget and on the 8-bit grid, so that one more
    attempt never lowers the final objective. Ties keep the earlier one. Costs one forward pass per attempt,
    and nothing if there is only one.
    """
    best = craft(0)
    if attempts == 1:
        return best
    value = _seen(objective, images, best, threat)
    for attempt in range(1, attempts):
        other = craft(attempt)
        found = _seen(objective, images, other, threat)
        better = found > value
        best = torch.where(better.view(-1, 1, 1, 1), other, best)
        value = torch.where(better, found, value)
    return best


def _seen(objective: Objective, images: Tensor, adversarial: Tensor, threat: ThreatModel) -> Tensor:
    with torch.no_grad():
        return objective(threat.enforce(images, adversarial))


class InputDiversity:
    """A view of N x 3 x H x W images, each shrunk at random and padded back to H x W with zeros.

    With probability ``chance`` an image's height becomes a random whole number in [``rate`` H, H), its width
    is scaled in proportion, and its position in the frame is random; otherwise it is unchanged. The paper
    enlarges 299 pixels to at most 330; shrinking by the same share keeps the victim's input size. Every image
    uses its own seed, three numbers per call, so that it does not depend on its batch. The transform of
    torchattacks is not used because it samples once for the whole batch, from global random state, and makes
    a tall image square.
    """

    def __init__(self, seeds: Sequence[int], chance: float, rate: float) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._chance = chance
        self._rate = rate

    def __call__(self, images: Tensor) -> Tensor:
        """The views of this call, N x 3 x H x W; differentiable."""
        views = [self._view(image, draws) for image, draws in zip(images, self._draws(), strict=True)]
        return torch.stack(views)

    def _draws(self) -> list[list[float]]:
        rows = [torch.rand(4, generator=own, dtype=torch.float64) for own in self._generators]
        return [row.tolist() for row in rows]

    def _view(self, image: Tensor, draws: list[float]) -> Tensor:
        applied, size, top, left = draws
        height, width = image.shape[1:]
        smallest = max(1, int(self._rate * height))
        if applied >= self._chance or smallest >= height:
            return image
        tall = smallest + int(size * (height - smallest))
        wide = max(1, round(tall * width / height))
        above, before = int(top * (height - tall + 1)), int(left * (width - wide + 1))
        small = interpolate(image[None], (tall, wide), mode="bilinear", align_corners=False)[0]
        return pad(small, (before, width - wide - before, above, height - tall - above))


def check_length(length: int, owner: str) -> None:
    """Refuse an even kernel length, which would shift the gradient by half a pixel."""
    if length and length % 2 == 0:
        raise BadInput(f"{owner}: smoothing={length} must be odd (15 in the paper), or 0 for none")


def gaussian_line(length: int) -> Tensor:
    """Gaussian of ``length`` (odd) values that sum to one, three standard deviations to each end.

    float64; the square kernel of the paper is its outer product with itself. A length of 3 smooths hardly at
    all: the middle value is 0.98.
    """
    if length == 1:
        return torch.ones(1, dtype=torch.float64)
    line = torch.exp(-torch.linspace(-3, 3, length, dtype=torch.float64).square() / 2)
    return line / line.sum()


def smoothed(gradient: Tensor, length: int) -> Tensor:
    """An N x C x H x W gradient convolved with the square Gaussian of ``length``, with zero padding."""
    line = gaussian_line(length).to(gradient)
    channels = gradient.shape[1]
    rows = line.view(1, 1, 1, -1).expand(channels, 1, 1, length)
    columns = line.view(1, 1, -1, 1).expand(channels, 1, length, 1)
    # A Gaussian is separable: two lines cost 2 n products per pixel, the square n squared.
    return conv2d(
        conv2d(gradient, rows, padding="same", groups=channels), columns, padding="same", groups=channels
    )


def noisy(images: Tensor, context: Context, scale: float) -> Tensor:
    """The images with uniform noise of ``scale`` budgets, in [0, 1]; the images themselves for 0."""
    return (images + context.uniform(images, scale=scale)).clamp(0, 1) if scale else images


@dataclass(frozen=True)
class IterativeAttack(PerImageAttack):
    """Signed (L2: unit) steps up an objective, each projected into the budget.

    x(0) = x + u with u uniform in +- ``start`` budgets, and x(t+1) = P(x(t) + a sign g(t)), where g(t) is the
    gradient of the objective at x(t) and P projects into the budget around x and [0, 1]. The step a is
    ``step_size``, or ``reach`` budgets divided by ``steps``.

    Options, all off by default: random restarts, which differ by their random start (of the whole budget
    where ``start`` is 0); input diversity (Xie et al., CVPR 2019); smoothed gradients (Dong et al., CVPR
    2019). They change only the gradients of a step, never the objective, so attempts are compared on the
    plain image.
    """

    steps: Annotated[int, Field(ge=1)] | None = param(
        30, "gradient steps; none means int(min(eps + 4, 1.25 eps)), eps in 8-bit levels"
    )
    step_size: Annotated[float, Field(gt=0)] | None = param(
        None, "pixel units; none means that all steps reach some budgets"
    )
    reach: Annotated[float, Field(gt=0)] | None = param(
        6.0, "budgets that all steps reach without a step size; none: each is eps/4"
    )
    start: Annotated[float, Field(ge=0, le=1)] = param(1.0, "random start, in budgets; 0 is the image itself")
    restarts: Annotated[int, Field(ge=1)] = param(1, "attempts per image; the best by its objective is kept")
    diversity: Annotated[float, Field(ge=0, le=1)] = param(
        0.0, "probability that a step uses a shrunk and padded image (0.5 in the paper)"
    )
    diversity_rate: Annotated[float, Field(gt=0, lt=1)] = param(
        0.9, "smallest relative size of such an image"
    )
    smoothing: Annotated[int, Field(ge=0)] = param(
        0, "odd length of the Gaussian over gradients (15 in the paper); 0 is none"
    )

    EFFORTS: ClassVar[Mapping[str, Mapping[str, object]]] = {"standard": {"steps": 30}}
    #: Momentum factor, and whether a step looks ahead along it (Nesterov).
    # No annotations: they would override fields of a subclass that inherits this class twice.
    momentum = 0.0
    nesterov = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_length(self.smoothing, self.name)
        if self.nesterov and not self.momentum:
            raise BadInput(f"{self.name}: nesterov looks ahead along the momentum; give momentum, such as 1")

    def check(self, victim: Victim, threat: ThreatModel) -> None:
        super().check(victim, threat)
        if self.steps is None and threat.norm != "linf":
            raise BadInput(f"{self.name}: steps=none counts 8-bit levels; give steps for {threat.norm}")

    def begin(self, images: Tensor, context: Context, attempt: int) -> Tensor:
        """Where an attempt starts; N x 3 x H x W."""
        return noisy(images, context, self.start or float(attempt > 0))

    def climb(self, images: Tensor, objective: Objective, context: Context) -> Tensor:
        """Climb once per restart and keep the best; N x 3 x H x W, in budget, not rounded."""
        steps, step_size = self.schedule(context.threat)

        def attempt(number: int) -> Tensor:
            own = attempt_context(context, number)
            view = None
            if self.diversity:
                seeds = stream_seeds(own.seeds, "input diversity")
                view = InputDiversity(seeds, self.diversity, self.diversity_rate)
            return ascend(
                images,
                self.begin(images, own, number),
                objective,
                context.threat,
                steps,
                step_size,
                self.momentum,
                nesterov=self.nesterov,
                view=view,
                smooth=partial(smoothed, length=self.smoothing) if self.smoothing else None,
            )

        return best_of(self.restarts, attempt, objective, images, context.threat)

    def schedule(self, threat: ThreatModel) -> tuple[int, float]:
        """Number of steps and size of a step in pixel units."""
        steps = self.steps
        if steps is None:
            steps = max(1, int(min(threat.levels + 4, 1.25 * threat.levels)))
        if self.step_size:
            return steps, self.step_size
        reach = steps / 4 if self.reach is None else self.reach
        return steps, reach * threat.epsilon / steps


@dataclass(frozen=True)
class MomentumAttack(IterativeAttack):
    """Steps with momentum (Dong et al., CVPR 2018) and, if asked, a look ahead (Lin et al., ICLR 2020)."""

    momentum: Annotated[float, Field(ge=0)] = param(0.0, "share of the past direction that is kept")
    nesterov: bool = param(False, "take gradients where the momentum leads; needs momentum")


def stream_seeds(seeds: Sequence[int], purpose: str) -> tuple[int, ...]:
    """A 63-bit seed derived from each seed, independent for different purposes."""
    return tuple(hashed(f"{purpose}/{seed}") for seed in seeds)


def attempt_context(context: Context, attempt: int) -> Context:
    """The context of a repeated attempt, with its own seeds; attempt 0 has the context itself."""
    if attempt == 0:
        return context
    return replace(context, seeds=stream_seeds(context.seeds, f"attempt {attempt}"))
