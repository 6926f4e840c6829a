"""Cross-modality perturbation synergy: one perturbation learnt in turns on visible and infrared images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor

from vbench.attacks.base import UniversalAttack
from vbench.attacks.distances import pairwise_squared, squared_distance
from vbench.attacks.perturbation import Perturbation
from vbench.attacks.training import ModalityView, TrainingView
from vbench.attacks.updates import learn_delta, updates_for
from vbench.core.settings import param
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.data.pixels import grey_images
from vbench.victims.base import Victim

_CHUNK = 64


@dataclass(frozen=True)
class CMPS(UniversalAttack):
    """Learn one perturbation in turns: a visible batch, then an infrared one (Gong et al., algorithm 1).

    Every step lowers the triplet loss [|C_n - f| - |C_p - f| + margin]_+ of perturbed embeddings f, with C_p
    the clean centroid of the image's own identity and C_n the centroid farthest from the clean image, both of
    the training set. Visible images leave their infrared centroid for a grey one (equation 4), infrared
    images their grey centroid for a visible one (equation 7), and a visible image that was randomly turned
    grey leaves its visible centroid for an infrared one (equation 1, second line). Each modality passes
    through its own stem and grey images through the visible one; infrared images are grey already. The
    momentum is shared across the modalities (equations 5 and 8), and every step is clipped to the budget
    (equations 6 and 9).

    What the paper leaves open: algorithm 1 writes "+ sign" although its stated aim needs a descent on the
    loss, so this descends; the start is small random noise, as for every universal attack here; |.| is the
    Euclidean distance of embeddings as the victim compares them, and the ranking distance itself for a victim
    that ranks by dot products. The grey centroids cost one clean pass over the visible images, which is no
    gradient evaluation.
    """

    name: ClassVar[str] = "cmps"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = (
        "universal: triplets across visible, grey and infrared centroids, modality by modality"
    )
    paper: ClassVar[str] = (
        "Gong et al., Cross-Modality Perturbation Synergy Attack for Person Re-identification, NeurIPS 2024"
    )

    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "v1": {"evaluations": 12800, "batch": 64, "momentum": 1.0, "margin": 0.5, "grey": 0.2},
    }
    EFFORTS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "standard": {"evaluations": 12800},
        # Five epochs over SYSU-MM01's 34,167 training images of both modalities.
        "published": {"evaluations": 5 * 34_167},
    }

    evaluations: Annotated[int, Field(ge=1)] = param(12800, "gradient evaluations (images) to spend")
    batch: Annotated[int, Field(ge=1)] = param(64, "images per step, all of one modality")
    step_size: Annotated[float, Field(gt=0)] | None = param(None, "pixel units; none means eps/12")
    momentum: Annotated[float, Field(ge=0)] = param(1.0, "share of the past direction that is kept")
    margin: Annotated[float, Field(ge=0)] = param(0.5, "margin of the triplet loss")
    grey: Annotated[float, Field(ge=0, le=1)] = param(0.2, "probability that a visible image turns grey")

    def learn(
        self, victim: Victim, train: TrainingView, threat: ThreatModel, generator: Generator, quiet: bool
    ) -> Perturbation:
        train.check_two(self.name)
        count = min(self.batch, len(train.identities))
        triplets = Triplets(victim, train, self.margin)
        active: list[float] = []
        batch: tuple[Tensor, dict[Modality, Tensor]] | None = None

        def objective(delta: Tensor) -> Tensor:
            nonlocal batch
            if batch is None:
                identities, positions = train.pairs(count, generator)
                batch = identities, dict(positions)
                turned = torch.rand(count, generator=generator, dtype=torch.float64) < self.grey
                loss = triplets.visible(delta, identities, positions[Modality.VISIBLE], turned)
            else:
                identities, positions = batch
                batch = None
                loss = triplets.infrared(delta, identities, positions[Modality.INFRARED])
            active.append(float((loss > 0).double().mean()))
            return -loss.mean()

        updates = updates_for(self.evaluations, count, self.name)
        delta = learn_delta(
            (3, *victim.input_size),
            objective,
            threat,
            generator,
            updates,
            self.step_size or threat.epsilon / 12,
            self.momentum,
            train[Modality.VISIBLE].embeddings,
            f"learning {self.name}",
            quiet,
        )
        log = {"active_triplets": sum(active) / len(active), "updates": updates}
        return Perturbation(delta, fit_log=log)


class Triplets:
    """The triplet losses of the paper on perturbed images, one value per image."""

    def __init__(self, victim: Victim, train: TrainingView, margin: float) -> None:
        self.victim, self.train, self.margin = victim, train, margin
        visible = train[Modality.VISIBLE]
        self.grey_view = replace(visible, embeddings=_grey_embeddings(victim, visible))
        both = {**train.views, Modality.VISIBLE: self.grey_view}
        self.grey = TrainingView(both).prototypes(Modality.VISIBLE)
        self.own = {modality: train.prototypes(modality) for modality in Modality}

    def visible(self, delta: Tensor, identities: Tensor, positions: Tensor, turned: Tensor) -> Tensor:
        """Losses of N visible images plus ``delta``, those where ``turned`` is true as grey images."""
        view = self.train[Modality.VISIBLE]
        images = view.batch(positions)
        turned = turned.to(images.device)
        images = torch.where(turned.view(-1, 1, 1, 1), grey_images(images), images)
        embedding = self._embed(images, delta, Modality.VISIBLE)
        colour = self._loss(
            embedding, view.embeddings[positions], identities, self.own[Modality.INFRARED], self.grey
        )
        grey = self._loss(
            embedding,
            self.grey_view.embeddings[positions],
            identities,
            self.own[Modality.VISIBLE],
            self.own[Modality.INFRARED],
        )
        return torch.where(turned, grey, colour)

    def infrared(self, delta: Tensor, identities: Tensor, positions: Tensor) -> Tensor:
        """Losses of N infrared images plus ``delta``."""
        view = self.train[Modality.INFRARED]
        embedding = self._embed(view.batch(positions), delta, Modality.INFRARED)
        clean = view.embeddings[positions]
        return self._loss(embedding, clean, identities, self.grey, self.own[Modality.VISIBLE])

    def _embed(self, images: Tensor, delta: Tensor, modality: Modality) -> Tensor:
        return self.victim((images + delta).clamp(0, 1), modality).embedding

    def _loss(
        self, embedding: Tensor, clean: Tensor, identities: Tensor, push: Tensor, pull: Tensor
    ) -> Tensor:
        similarity = self.victim.similarity
        rows = torch.searchsorted(self.train.identities, identities).to(push.device)
        farthest = pairwise_squared(clean, pull, similarity).argmax(1)
        away = _distance(embedding, push[rows], similarity)
        toward = _distance(embedding, pull[farthest], similarity)
        return (toward - away + self.margin).clamp_min(0)


def _distance(a: Tensor, b: Tensor, similarity: str) -> Tensor:
    distance = squared_distance(a, b, similarity)
    # A distance made of dot products may be negative, so no square root is taken.
    return distance if similarity.startswith("dot") else distance.clamp_min(1e-12).sqrt()


@torch.no_grad()
def _grey_embeddings(victim: Victim, view: ModalityView) -> Tensor:
    rows = torch.arange(len(view.labels)).split(_CHUNK)
    found = [victim(grey_images(view.batch(index)), Modality.VISIBLE).embedding for index in rows]
    return torch.cat(found).to(view.embeddings)
