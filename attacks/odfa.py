"""Opposite-direction feature attack: toward the negated clean embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vbench.attacks.base import Context
from vbench.attacks.distances import squared_distance
from vbench.attacks.steps import MomentumAttack
from vbench.core.types import Modality
from vbench.victims.base import Victim


@dataclass(frozen=True)
class ODFA(MomentumAttack):
    """Lower the squared distance between the embedding and the opposite of its clean self (Zheng et al.).

    For unit-length embeddings that is the metric attack on the own embedding with another start: ODFA lowers
    2 + 2 cos, the metric attack raises 2 - 2 cos. Ten steps of eps/8 by default: at 8/255 the authors' step
    of 1/255 and their round(min(eps + 4, 1.25 eps)) steps.
    """

    name: ClassVar[str] = "odfa"
    version: ClassVar[int] = 1
    gradients_per_image: ClassVar[int] = 10
    summary: ClassVar[str] = "drive the embedding toward the opposite of its clean direction"
    paper: ClassVar[str] = (
        "Zheng et al., U-turn: Crafting Adversarial Queries with Opposite-Direction Features, 2018"
    )
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2"})

    def craft(self, victim: Victim, images: Tensor, modality: Modality, context: Context) -> Tensor:
        def objective(candidate: Tensor) -> Tensor:
            return -squared_distance(victim(candidate, modality).embedding, -context.clean, victim.similarity)

        def start(own: Context, attempt: int) -> Tensor:
            # At the clean image the gradient on the unit sphere is zero up to rounding, so the authors' first
            # signed step is random; here it is random with a seed.
            _, step_size = self.schedule(own.threat)
            return (images + own.uniform(images).sign() * step_size).clamp(0, 1)

        return self.climb(images, objective, start, context)
