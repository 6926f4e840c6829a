"""How a universal attack turns gradients into its perturbation, as settings: signed steps, or pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from vbench.attacks.base import UniversalAttack
from vbench.attacks.pooling import Pooling
from vbench.attacks.training_view import TrainingView
from vbench.attacks.universal import UniversalObjective, learn_delta
from vbench.parameters import param
from vbench.threat import ThreatModel
from vbench.types import Modality
from vbench.victims.base import Victim


@dataclass(frozen=True)
class UpdatedAttack(UniversalAttack):
    """A universal attack whose updates are a setting: signed steps with momentum, or dual averaging."""

    update: Literal["sign", "pooled"] = param("sign", "signed steps with momentum, or dual averaging")
    step_size: Annotated[float, Field(gt=0)] | None = param(None, "sign: pixel units; none means eps/10")
    momentum: Annotated[float, Field(ge=0)] = param(0.9, "sign: share of the past direction that is kept")
    rate: Annotated[float, Field(gt=0)] = param(0.05, "pooled: share of the budget an update is worth")
    votes: Literal["image", "batch"] = param("image", "pooled: whose gradients get unit size")
    starts: Annotated[int, Field(ge=1)] = param(8, "pooled: beginnings, of which the best goes on")
    start_share: Annotated[float, Field(gt=0, lt=1)] = param(
        0.6, "pooled: share of the updates spent on beginnings"
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
    ) -> Tensor:
        """Raise ``objective``, on ``images`` images an update, with ``updates`` gradients; 3 x H x W."""
        shape, like = (3, *victim.input_size), train[Modality.VISIBLE].embeddings
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
    """What each modality of a batch adds: the perturbation, or its half of one copy an image."""
    halves = delta.chunk(2) if len(delta) > 1 else (delta, delta)
    return dict(zip(Modality, halves, strict=True))
