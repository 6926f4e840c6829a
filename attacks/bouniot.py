"""The attacks SMA and FNA of Bouniot et al."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from vbench.attacks.base import Context
from vbench.attacks.distances import pairwise_squared, squared_distance
from vbench.attacks.metric import AVERAGE, Average, GuideKind, SteppedMetricAttack, known_prototypes
from vbench.attacks.steps import IterativeAttack, MomentumAttack, Objective
from vbench.core.errors import BadInput
from vbench.core.settings import param
from vbench.core.types import Modality
from vbench.victims.base import Victim

PAPER = (
    "Bouniot et al., Vulnerability of Person Re-Identification Models to Metric Adversarial Attacks, "
    "CVPRW 2020"
)


def _presets(start: float, **more: object) -> Mapping[str, Mapping[str, object]]:
    return {
        "paper": {"step_size": "1/255", "start": start},
        "best": {},
        "v1": {"steps": 15, "reach": 3.0, "start": start, **more},
    }


@dataclass(frozen=True)
class BouniotAttack(SteppedMetricAttack, MomentumAttack):
    """What both attacks of the paper share: steps of 1/255, with ``effort=published`` fifteen of them."""

    paper: ClassVar[str] = PAPER
    gradients_per_image: ClassVar[int] = 30
    EFFORTS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        **MomentumAttack.EFFORTS,
        "published": {"steps": 15},
    }


@dataclass(frozen=True)
class SMA(BouniotAttack):
    """Raise D(f(x'), f(x)), the squared distance to the own clean embedding.

    Bouniot et al. 2020, algorithm 1. It needs no other image. It is ``metric_ifgsm`` with its own guide and
    the same code; the presets "paper" and "v1" start from noise of the whole budget instead of half of it and
    take longer steps. ODFA has an equivalent objective for unit-length embeddings.
    """

    name: ClassVar[str] = "sma"
    version: ClassVar[int] = 2
    summary: ClassVar[str] = "away from the own clean embedding, from a random start in the whole budget"
    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = _presets(1.0)
    guides, average = "own", "unit"


@dataclass(frozen=True)
class FNA(BouniotAttack):
    """Raise ``push`` D(f(x'), guide) - sum of D(f(x'), n) over the ``pull`` furthest negatives n.

    Bouniot et al. 2020, algorithm 2, with D the squared distance the victim ranks by. Negatives are training
    centroids of the other modality, the one a query is ranked against, furthest from the clean embedding
    first; the authors take the furthest cluster among the queries, whose identities an attacker here does not
    know. They push away from every query of the own identity, filling short lists with the image's own clean
    embedding, and from four in their adversarial training: here from one guide with that weight, "own" by
    default. The presets "paper" and "v1" start at the clean image, where the pull has a gradient. ``push=0``
    is their pull-only variant.
    """

    name: ClassVar[str] = "fna"
    version: ClassVar[int] = 2
    summary: ClassVar[str] = "away from the own guide and toward the furthest training identity"
    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = _presets(0.0, average="raw")

    guides: GuideKind = param("own", "what to move away from: own, training or gallery")
    average: Average = param("unit", AVERAGE)
    push: Annotated[float, Field(ge=0)] = param(4.0, "weight of the guide, against 1 for each negative")
    pull: Annotated[int, Field(ge=1)] = param(1, "how many of the furthest training identities attract")

    @property
    def knowledge(self) -> frozenset[str]:
        return super().knowledge | {"training"}

    def objective(self, victim: Victim, modality: Modality, context: Context) -> Objective:
        guides = self._guides(victim, modality, context)
        negatives = self._negatives(victim, modality, context)

        def advantage(candidate: Tensor) -> Tensor:
            embedding = victim(candidate, modality).embedding
            away = squared_distance(embedding, guides, victim.similarity)
            near = [squared_distance(embedding, negative, victim.similarity) for negative in negatives]
            return self.push * away - torch.stack(near).sum(0)

        return advantage

    def begin(self, images: Tensor, context: Context, attempt: int) -> Tensor:
        # The pull has a gradient at the image itself, whatever the guide.
        return IterativeAttack.begin(self, images, context, attempt)

    def _negatives(self, victim: Victim, modality: Modality, context: Context) -> Tensor:
        """The furthest training centroids of each image, pull x N x D."""
        prototypes = known_prototypes(context, modality.other, self.name)
        if self.pull > len(prototypes):
            raise BadInput(f"{self.name}: pull={self.pull}, and {len(prototypes)} training identities")
        distance = pairwise_squared(context.clean, prototypes, victim.similarity)
        return prototypes[distance.topk(self.pull, dim=1).indices.T]
