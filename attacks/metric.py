"""Adversarial metric attack: the gradient of a distance in embedding space, not of a class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from vbench.attacks.base import Context, PerImageAttack
from vbench.attacks.distances import pairwise_squared, squared_distance
from vbench.attacks.steps import IterativeAttack, MomentumAttack, Objective, ascend
from vbench.core.errors import BadInput
from vbench.core.settings import param
from vbench.core.types import Modality
from vbench.victims.base import Victim

#: The authors' schedule (steps of one level, their number from eps), on the gallery and on queries.
_PRESETS: Mapping[str, Mapping[str, object]] = {
    "original": {"guides": "gallery", "steps": "none", "step_size": "1/255"},
    "query": {"steps": "none", "step_size": "1/255"},
}
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


class MetricAttack(PerImageAttack):
    """Raise the squared distance to guides (Bai et al., untargeted metric attack).

    ``guides``: "own" is the image's own clean embedding and needs a random start, since the gradient of a
    distance to itself is exactly zero; "training" the nearest training identity's centroid in the other
    modality; "gallery" the mean gallery embedding of the query's own identity, which only an insider knows.
    """

    paper: ClassVar[str] = _PAPER
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2"})
    #: Size of the noise of a random start, as a share of the budget.
    start_scale: ClassVar[float] = 0.5
    guides: GuideKind

    @property
    def knowledge(self) -> frozenset[str]:
        return frozenset() if self.guides == "own" else frozenset({self.guides})

    def objective(self, victim: Victim, modality: Modality, context: Context) -> Objective:
        """The objective: the squared distance of each image's embedding to its guide."""
        guides = self._guides(victim, modality, context)

        def distance(candidate: Tensor) -> Tensor:
            return squared_distance(victim(candidate, modality).embedding, guides, victim.similarity)

        return distance

    def start(self, images: Tensor, context: Context, attempt: int = 0) -> Tensor:
        """The image itself; with noise of ``start_scale`` budgets for ``guides`` "own" and for restarts."""
        if self.guides != "own" and attempt == 0:
            return images
        return (images + context.uniform(images, scale=self.start_scale)).clamp(0, 1)

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
        mean = same @ context.gallery.embeddings.to(context.clean) / found.clamp_min(1)
        return torch.where(found > 0, mean, context.clean)


@dataclass(frozen=True)
class MetricFGSM(MetricAttack):
    """One step of size eps away from the guides."""

    name: ClassVar[str] = "metric_fgsm"
    version: ClassVar[int] = 1
    gradients_per_image: ClassVar[int] = 1
    summary: ClassVar[str] = "one signed step away from guides in embedding space"

    guides: GuideKind = param("own", "what to move away from: own, training or gallery")

    def craft(self, victim: Victim, images: Tensor, modality: Modality, context: Context) -> Tensor:
        start, objective = self.start(images, context), self.objective(victim, modality, context)
        return ascend(images, start, objective, context.threat, 1, context.threat.epsilon)


class SteppedMetricAttack(MetricAttack, IterativeAttack):
    """The step loop on the objective of a metric attack."""

    def craft(self, victim: Victim, images: Tensor, modality: Modality, context: Context) -> Tensor:
        objective = self.objective(victim, modality, context)
        return self.climb(images, objective, partial(self.start, images), context)


@dataclass(frozen=True)
class MetricIFGSM(SteppedMetricAttack):
    """Several signed steps; by default ten of eps/8, the paper's 1/255 and ten iterations at 8/255.

    The preset "original" is the authors' released setting: steps of 1/255, their number from eps, from the
    clean image, away from clean images of the same identity on the other side, on the gallery at 5/255. The
    preset "query" is its schedule on queries at 8/255, away from the own embedding. Side and budget that the
    user gives override those of a preset.
    """

    name: ClassVar[str] = "metric_ifgsm"
    version: ClassVar[int] = 1
    gradients_per_image: ClassVar[int] = 10
    summary: ClassVar[str] = "signed steps away from guides in embedding space"
    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = _PRESETS
    PRESET_THREATS: ClassVar[Mapping[str, Mapping[str, str]]] = _PRESET_THREATS

    guides: GuideKind = param("own", "what to move away from: own, training or gallery")


@dataclass(frozen=True)
class MetricMIFGSM(SteppedMetricAttack, MomentumAttack):
    """The iterative attack with momentum; its presets are those of metric_ifgsm with momentum 1."""

    name: ClassVar[str] = "metric_mifgsm"
    version: ClassVar[int] = 1
    gradients_per_image: ClassVar[int] = 10
    summary: ClassVar[str] = "signed steps with momentum away from guides in embedding space"
    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = _PRESETS
    PRESET_THREATS: ClassVar[Mapping[str, Mapping[str, str]]] = _PRESET_THREATS

    guides: GuideKind = param("own", "what to move away from: own, training or gallery")
    momentum: Annotated[float, Field(ge=0)] = param(1.0, "share of the past direction that is kept")
