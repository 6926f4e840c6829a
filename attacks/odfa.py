"""Opposite-direction feature attack: toward the negated clean embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from vbench.attacks.base import Context
from vbench.attacks.distances import squared_distance
from vbench.attacks.steps import MomentumAttack
from vbench.core.settings import param
from vbench.core.types import Modality
from vbench.victims.base import Victim


@dataclass(frozen=True)
class ODFA(MomentumAttack):
    """Lower D(f(x'), -f(x)), the squared distance between the embedding and the opposite of its clean self.

    Zheng et al., equation 7. For unit-length embeddings that is the metric attack on the own embedding with
    another start: ODFA lowers 2 + 2 cos, the metric attack raises 2 - 2 cos. At the clean image the gradient
    on the unit sphere is zero up to rounding, so the authors' first signed step is random; here it is random
    with a seed (``start`` none), or noise as in the other attacks. The preset "paper" has their step of
    1/255, with ``effort=published`` int(min(eps + 4, 1.25 eps)) steps where they round, one step fewer at
    some budgets.
    """

    name: ClassVar[str] = "odfa"
    version: ClassVar[int] = 2
    gradients_per_image: ClassVar[int] = 30
    summary: ClassVar[str] = "drive the embedding toward the opposite of its clean direction"
    paper: ClassVar[str] = (
        "Zheng et al., U-turn: Crafting Adversarial Queries with Opposite-Direction Features, 2018"
    )
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2"})
    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper": {"step_size": "1/255", "start": None},
        "best": {},
        "v1": {"steps": 10, "reach": 1.25, "start": None},
    }
    EFFORTS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        **MomentumAttack.EFFORTS,
        "published": {"steps": "none"},
    }

    start: Annotated[float, Field(ge=0, le=1)] | None = param(  # type: ignore[assignment]  # none is added
        None, "random start, in budgets; none: one signed step in a random direction"
    )

    def begin(self, images: Tensor, context: Context, attempt: int) -> Tensor:
        if self.start is not None:
            return super().begin(images, context, attempt)
        step = self.schedule(context.threat)[1]
        return (images + context.uniform(images).sign() * step).clamp(0, 1)

    def craft(self, victim: Victim, images: Tensor, modality: Modality, context: Context) -> Tensor:
        def objective(candidate: Tensor) -> Tensor:
            return -squared_distance(victim(candidate, modality).embedding, -context.clean, victim.similarity)

        return self.climb(images, objective, context)
