"""Adversarial metric attack: the gradient of a distance in embedding space, not of a class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from vbench.attacks.base import Context, PerImageAttack
from vbench.attacks.distances import comparable, pairwise_squared, squared_distance
from vbench.attacks.steps import IterativeAttack, MomentumAttack, Objective, ascend, noisy
from vbench.core.errors import BadInput
from vbench.core.settings import param
from vbench.core.types import Modality
from vbench.victims.base import Victim

Settings = Mapping[str, Mapping[str, object]]

_ONE_STEP: Mapping[str, object] = {"start": 0.5, "step": 1.0}
_V1 = {"steps": 10, "reach": 1.25, "start": 0.5, "average": "raw"}
#: The authors' schedule (steps of one level, their number from eps): at every effort with the clean images of
#: the same identity as guides, on the gallery ("original"), and with the own embedding on queries ("query").
_PRESETS: Settings = {
    "paper": {"step_size": "1/255", "start": 0.5},
    "best": {},
    "v1": _V1,
    "original": {"guides": "gallery", "steps": "none", "step_size": "1/255", "start": 0.5},
    "query": {"steps": "none", "step_size": "1/255", "start": 0.5},
}
_EFFORTS: Settings = {**IterativeAttack.EFFORTS, "published": {"steps": "none"}}
_PRESET_THREATS: Mapping[str, Mapping[str, str]] = {
    "original": {"side": "gallery", "eps": "5/255"},
    "query": {"side": "query", "eps": "8/255"},
}
_PAPER = "Bai et al., Adversarial Metric Attack and Defense for Person Re-identification, TPAMI 2021"


def known_prototypes(context: Context, modality: Modality, owner: str) -> Tensor:
    """Training centroids of a modality, C x D like the clean embeddings; BadInput if the context has none."""
    if modality not in context.prototypes:
        raise BadInput(f"attack '{owner}' needs training prototypes, and the context holds none")
    return context.prototypes[modality].to(context.clean)


GuideKind = Literal["own", "training", "gallery"]
Average = Literal["unit", "raw"]
AVERAGE = "guides=gallery: mean of embeddings as the victim compares them, or as they are"


class MetricAttack(PerImageAttack):
    """Raise D(f(x'), g) to a guide g (Bai et al., untargeted metric attack), D the squared distance.

    f is the embedding and D the distance the victim ranks by, squared: for a victim that compares cosines
    that of unit-length embeddings. ``guides``: "own" is the image's own clean embedding and needs a random
    start, since the gradient of a distance to itself is exactly zero; "training" the nearest training
    identity's centroid in the other modality; "gallery" the gallery embeddings of the query's own identity,
    which only an insider knows. The paper raises the sum of D over these; for unit-length embeddings that is
    D to their mean up to a positive factor and a constant, so the guide is the mean of embeddings as the
    victim compares them; version 1 averaged them as they are (``average`` "raw"). With another guide than
    "own" the first attempt starts at the image itself.
    """

    paper: ClassVar[str] = _PAPER
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2"})
    guides: GuideKind
    average: Average

    @property
    def knowledge(self) -> frozenset[str]:
        return frozenset() if self.guides == "own" else frozenset({self.guides})

    def objective(self, victim: Victim, modality: Modality, context: Context) -> Objective:
        """The objective: the squared distance of each image's embedding to its guide."""
        guides = self._guides(victim, modality, context)

        def distance(candidate: Tensor) -> Tensor:
            return squared_distance(victim(candidate, modality).embedding, guides, victim.similarity)

        return distance

    def _guides(self, victim: Victim, modality: Modality, context: Context) -> Tensor:
        if self.guides == "own":
            return context.clean
        if self.guides == "training":
            prototypes = known_prototypes(context, modality.other, self.name)
            nearest = pairwise_squared(context.clean, prototypes, victim.similarity).argmin(1)
            return prototypes[nearest]
        if context.gallery is None:
            raise BadInput(
                f"attack '{self.name}' with guides=gallery needs the embeddings of the other side, "
                "and the context holds none"
            )
        same = (context.gallery.query_ids[:, None] == context.gallery.ids[None, :]).to(context.clean)
        found = same.sum(1, keepdim=True)
        listed = context.gallery.embeddings.to(context.clean)
        if self.average == "unit":
            listed = comparable(listed, victim.similarity)
        return torch.where(found > 0, same @ listed / found.clamp_min(1), context.clean)


@dataclass(frozen=True)
class MetricFGSM(MetricAttack):
    """One step x' = P(x + u + ``step`` eps sign(gradient of D)) away from the guide; u is the random start.

    The step of 1.5 eps leaves few values inside the budget, so the start costs little of it. "paper" has a
    step of eps; its start, which the published guides do not need, is ours.
    """

    name: ClassVar[str] = "metric_fgsm"
    version: ClassVar[int] = 3
    gradients_per_image: ClassVar[int] = 1
    summary: ClassVar[str] = "one signed step away from guides in embedding space"
    PRESETS: ClassVar[Settings] = {
        "paper": _ONE_STEP,
        "best": {},
        "v1": {**_ONE_STEP, "average": "raw"},
    }
    EFFORTS: ClassVar[Settings] = {"standard": {}, "published": {}}

    guides: GuideKind = param("own", "what to move away from: own, training or gallery")
    average: Average = param("unit", AVERAGE)
    start: Annotated[float, Field(ge=0, le=1)] = param(1.0, "random start of guides=own, in budgets")
    step: Annotated[float, Field(gt=0)] = param(1.5, "size of the step, in budgets")

    def craft(self, victim: Victim, images: Tensor, modality: Modality, context: Context) -> Tensor:
        start = noisy(images, context, self.start if self.guides == "own" else 0.0)
        size = self.step * context.threat.epsilon
        return ascend(images, start, self.objective(victim, modality, context), context.threat, 1, size)


class SteppedMetricAttack(MetricAttack, IterativeAttack):
    """The step loop on the objective of a metric attack."""

    def begin(self, images: Tensor, context: Context, attempt: int) -> Tensor:
        if self.guides != "own" and attempt == 0:
            return images
        return super().begin(images, context, attempt)

    def craft(self, victim: Victim, images: Tensor, modality: Modality, context: Context) -> Tensor:
        return self.climb(images, self.objective(victim, modality, context), context)


@dataclass(frozen=True)
class MetricIFGSM(SteppedMetricAttack):
    """Several signed steps away from the guide.

    The presets "original" and "query" are the authors' released setting, cost included: steps of 1/255, their
    number int(min(eps + 4, 1.25 eps)), eps in levels. "original" attacks the gallery at 5/255 from the clean
    image, away from clean images of the same identity on the other side; "query" queries at 8/255, away from
    the own embedding. Side and budget that the user gives override those of a preset. "paper" is "query" with
    the number of steps left to the effort. The size of the random start, which the published guides do not
    need, is ours.
    """

    name: ClassVar[str] = "metric_ifgsm"
    version: ClassVar[int] = 2
    gradients_per_image: ClassVar[int] = 30
    summary: ClassVar[str] = "signed steps away from guides in embedding space"
    PRESETS: ClassVar[Settings] = _PRESETS
    PRESET_THREATS: ClassVar[Mapping[str, Mapping[str, str]]] = _PRESET_THREATS
    EFFORTS: ClassVar[Settings] = _EFFORTS

    guides: GuideKind = param("own", "what to move away from: own, training or gallery")
    average: Average = param("unit", AVERAGE)
    start: Annotated[float, Field(ge=0, le=1)] = param(0.5, "random start, in budgets; 0 is the image itself")


@dataclass(frozen=True)
class MetricMIFGSM(SteppedMetricAttack, MomentumAttack):
    """Steps with momentum; presets as metric_ifgsm has them, with momentum 1 in all but "best"."""

    name: ClassVar[str] = "metric_mifgsm"
    version: ClassVar[int] = 3
    gradients_per_image: ClassVar[int] = 30
    summary: ClassVar[str] = "signed steps with momentum away from guides in embedding space"
    PRESETS: ClassVar[Settings] = {
        name: {"momentum": 1.0, **own} if own else {} for name, own in _PRESETS.items()
    }
    PRESET_THREATS: ClassVar[Mapping[str, Mapping[str, str]]] = _PRESET_THREATS
    EFFORTS: ClassVar[Settings] = _EFFORTS

    guides: GuideKind = param("own", "what to move away from: own, training or gallery")
    average: Average = param("unit", AVERAGE)
    momentum: Annotated[float, Field(ge=0)] = param(0.5, "share of the past direction that is kept")
    start: Annotated[float, Field(ge=0, le=1)] = param(0.5, "random start, in budgets; 0 is the image itself")
