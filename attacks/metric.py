"""Adversarial metric attack: the gradient of a distance in embedding space, not of a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from vbench.attacks.base import Context, PerImageAttack
from vbench.attacks.distances import pairwise_squared, squared_distance
from vbench.attacks.steps import ascend
from vbench.errors import BadInput
from vbench.parameters import param
from vbench.types import Modality
from vbench.victims.base import Victim

_PAPER = "Bai et al., Adversarial Metric Attack and Defense for Person Re-identification, TPAMI 2021"

GuideKind = Literal["own", "training", "gallery"]


class MetricAttack(PerImageAttack):
    """Raise the squared distance to guides (Bai et al., untargeted metric attack).

    ``guides``: "own" is the image's own clean embedding and needs a random start, since the gradient of a
    distance to itself is exactly zero; "training" the nearest training identity's centroid in the other
    modality; "gallery" the mean gallery embedding of the query's own identity, which only an insider knows.
    """

    paper: ClassVar[str] = _PAPER
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2"})
    guides: GuideKind

    @property
    def knowledge(self) -> frozenset[str]:
        return frozenset() if self.guides == "own" else frozenset({self.guides})

    def climb(
        self,
        victim: Victim,
        images: Tensor,
        modality: Modality,
        context: Context,
        steps: int,
        step_size: float,
        momentum: float,
    ) -> Tensor:
        """The shared loop: from the image, or from half the budget of noise when it guides itself."""
        guides = self._guides(victim, modality, context)
        start = images
        if self.guides == "own":
            noise = context.uniform(images, scale=0.5)
            start = (images + noise).clamp(0, 1)

        def objective(candidate: Tensor) -> Tensor:
            return squared_distance(victim(candidate, modality).embedding, guides, victim.similarity)

        return ascend(images, start, objective, context.threat, steps, step_size, momentum)

    def _guides(self, victim: Victim, modality: Modality, context: Context) -> Tensor:
        if self.guides == "own":
            return context.clean
        if self.guides == "training":
            prototypes = context.prototypes[modality.other].to(context.clean)
            nearest = pairwise_squared(context.clean, prototypes, victim.similarity).argmin(1)
            return prototypes[nearest]
        if context.gallery is None:
            raise BadInput(f"attack '{self.name}' with gallery guides needs the query side and a gallery")
        same = (context.gallery.query_ids[:, None] == context.gallery.ids[None, :]).to(context.clean)
        found = same.sum(1, keepdim=True)
        mean = same @ context.gallery.embeddings.to(context.clean) / found.clamp_min(1)
        return torch.where(found > 0, mean, context.clean)


@dataclass(frozen=True)
class MetricFGSM(MetricAttack):
    """One step of size eps away from the guides."""

    name: ClassVar[str] = "metric_fgsm"
    summary: ClassVar[str] = "one signed step away from guides in embedding space"

    guides: GuideKind = param("own", "what to move away from: own, training or gallery")

    def craft(self, victim: Victim, images: Tensor, modality: Modality, context: Context) -> Tensor:
        return self.climb(victim, images, modality, context, 1, context.threat.epsilon, 0.0)


@dataclass(frozen=True)
class MetricIFGSM(MetricAttack):
    """Several signed steps; by default ten of eps/8, the paper's 1/255 and ten iterations at 8/255."""

    name: ClassVar[str] = "metric_ifgsm"
    summary: ClassVar[str] = "signed steps away from guides in embedding space"

    guides: GuideKind = param("own", "what to move away from: own, training or gallery")
    steps: Annotated[int, Field(ge=1)] = param(10, "number of gradient steps")
    step_size: Annotated[float, Field(gt=0)] | None = param(None, "pixel units; none means 1.25 eps/steps")

    #: Share of the past direction that is kept; the momentum variant makes it a parameter.
    momentum: ClassVar[float] = 0.0

    def craft(self, victim: Victim, images: Tensor, modality: Modality, context: Context) -> Tensor:
        step_size = self.step_size or 1.25 * context.threat.epsilon / self.steps
        return self.climb(victim, images, modality, context, self.steps, step_size, self.momentum)


@dataclass(frozen=True)
class MetricMIFGSM(MetricIFGSM):
    """The iterative attack with momentum."""

    name: ClassVar[str] = "metric_mifgsm"
    summary: ClassVar[str] = "signed steps with momentum away from guides in embedding space"

    momentum: Annotated[float, Field(ge=0)] = param(1.0, "share of the past direction that is kept")
