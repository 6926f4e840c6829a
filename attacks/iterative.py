"""What attacks that climb step by step share: the schedule, and the options that help gradients transfer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from vbench.attacks.base import Context, PerImageAttack
from vbench.attacks.diversity import InputDiversity
from vbench.attacks.draws import attempt_context, stream_seeds
from vbench.attacks.restarts import best_of
from vbench.attacks.smoothing import check_length, smoothed
from vbench.attacks.steps import Objective, ascend
from vbench.errors import BadInput
from vbench.parameters import param
from vbench.threat import ThreatModel
from vbench.victims.base import Victim

#: Where an attempt begins: its context, with chance of its own, and its number -> N x 3 x H x W.
Start = Callable[[Context, int], Tensor]


@dataclass(frozen=True)
class IterativeAttack(PerImageAttack):
    """Signed (L2: unit) steps up an objective, each projected into the budget.

    Options, all off by default: random restarts; input diversity (Xie et al., CVPR 2019); smoothed gradients
    (Dong et al., CVPR 2019). The objective itself is never changed by them, only the gradients of a step, so
    attempts are compared on the plain image.
    """

    steps: Annotated[int, Field(ge=1)] | None = param(
        10, "gradient steps; none means int(min(eps + 4, 1.25 eps)), eps in 8-bit levels"
    )
    step_size: Annotated[float, Field(gt=0)] | None = param(
        None, "pixel units; none means that all steps reach 1.25 eps"
    )
    restarts: Annotated[int, Field(ge=1)] = param(1, "attempts an image; the best by its objective is kept")
    diversity: Annotated[float, Field(ge=0, le=1)] = param(
        0.0, "chance that a step sees the image shrunk and padded (0.5 in the paper)"
    )
    diversity_rate: Annotated[float, Field(gt=0, lt=1)] = param(0.9, "smallest share of its size it has then")
    smoothing: Annotated[int, Field(ge=0)] = param(
        0, "odd length of the Gaussian over gradients (15 in the paper); 0 is none"
    )

    #: Share of the past direction that is kept, and whether a step looks ahead along it.
    # Without annotations: a subclass that inherits this one twice keeps the fields it makes of them.
    momentum = 0.0
    nesterov = False
    #: How far all steps together reach when no step size is given, in budgets.
    reach: ClassVar[float] = 1.25

    def __post_init__(self) -> None:
        super().__post_init__()
        check_length(self.smoothing, self.name)
        if self.nesterov and not self.momentum:
            raise BadInput(f"{self.name}: nesterov looks ahead along the momentum; give momentum, such as 1")

    def check(self, victim: Victim, threat: ThreatModel) -> None:
        super().check(victim, threat)
        if self.steps is None and threat.norm != "linf":
            raise BadInput(f"{self.name}: steps=none counts 8-bit levels; give steps for {threat.norm}")

    def climb(self, images: Tensor, objective: Objective, start: Start, context: Context) -> Tensor:
        """Climb from ``start`` as often as there are restarts; N x 3 x H x W, in budget, not rounded."""
        steps, step_size = self.schedule(context.threat)

        def attempt(number: int) -> Tensor:
            own = attempt_context(context, number)
            view = None
            if self.diversity:
                seeds = stream_seeds(own.seeds, "input diversity")
                view = InputDiversity(seeds, self.diversity, self.diversity_rate)
            return ascend(
                images,
                start(own, number),
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
        return steps, self.step_size or self.reach * threat.epsilon / steps


@dataclass(frozen=True)
class MomentumAttack(IterativeAttack):
    """Steps with momentum (Dong et al., CVPR 2018) and, if asked, a look ahead (Lin et al., ICLR 2020)."""

    momentum: Annotated[float, Field(ge=0)] = param(0.0, "share of the past direction that is kept")
    nesterov: bool = param(False, "take gradients where the momentum leads; needs momentum")
