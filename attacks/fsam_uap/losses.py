"""The AQAL: as published, and as a ranking loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from vbench.attacks.distances import pairwise_squared
from vbench.attacks.training import TrainingView
from vbench.core.types import Modality

Hinge = Literal["relu", "soft"]

Reduction = Literal["mean", "sum"]


def centres(points: Tensor, each: int) -> Tensor:
    """Class centres P x D: means of ``each`` consecutive rows of P * ``each`` x D points."""
    return points.unflatten(0, (-1, each)).mean(1) if each > 1 else points


@dataclass(frozen=True)
class AQALValue:
    """``loss``: scalar; ``active``: mean slope of the hinge over the (j, k) triples, in [0, 1].

    With a "relu" hinge that is the share of triples above zero; at 0 the loss has no gradient at all.
    """

    loss: Tensor
    active: float


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance of rows of two N x D tensors, N values, with a zero gradient where they meet."""
    return ((a - b).square().sum(1) + 1e-12).sqrt()


def one_way(
    other: Tensor, same: Tensor, anchor: Tensor, margin: float, hinge: Hinge, reduction: Reduction = "mean"
) -> AQALValue:
    """L(v2, i2, v1) with ``same`` = v2, ``other`` = i2, ``anchor`` = v1; row j of each is identity j.

    Over ordered pairs j != k the ``reduction`` of [D(v2_j, v1_j) - D(i2_j, v1_j) - D(v2_j, v2_k) + margin]_+:
    the published loss is the "sum"; with the "mean" its weight against the identity term does not depend on
    the batch size. ``hinge`` "soft" replaces [.]_+ by softplus, whose gradient is never zero.
    """
    count = len(same)
    first = distances(same, anchor) - distances(other, anchor)
    gaps = (same[:, None] - same[None, :]).square().sum(2)
    apart = ~torch.eye(count, dtype=torch.bool, device=same.device)
    inner = (first[:, None] - (gaps + 1e-12).sqrt() + margin)[apart]
    slopes = torch.sigmoid(inner) if hinge == "soft" else (inner > 0).to(inner)
    values = softplus(inner) if hinge == "soft" else inner.clamp_min(0)
    return AQALValue(values.sum() if reduction == "sum" else values.mean(), slopes.mean().item())


def aqal(
    v2: Tensor,
    i2: Tensor,
    v1: Tensor,
    i1: Tensor,
    margin: float,
    hinge: Hinge,
    reduction: Reduction = "mean",
) -> AQALValue:
    """L(v2, i2, v1) + L(i2, v2, i1) on P x D points of P different identities (P >= 2)."""
    visible = one_way(i2, v2, v1, margin, hinge, reduction)
    infrared = one_way(v2, i2, i1, margin, hinge, reduction)
    return AQALValue(visible.loss + infrared.loss, (visible.active + infrared.active) / 2)


class RankingLoss:
    """Hinge on whether an adversarial image is nearer to its own identity or to another one.

    With x2 the adversarial embedding of identity j in one modality and c the clean centroids of the other,
    the mean over k != j of [(D(x2_j, c_k) - D(x2_j, c_j)) / gap + margin]_+ . From the published quadruple
    (see ``aqal``) it keeps the term that ranks a query, D(i2_j, v1_j) with x1 clean, and compares it with the
    other candidates of that ranking instead of the batch's other adversarial images. D is the squared
    distance the victim ranks by; ``gap``, from clean training images, is the mean distance to all centroids
    minus that to the nearest, so that a margin has the same scale for every victim.
    """

    def __init__(self, train: TrainingView, similarity: str) -> None:
        self._similarity = similarity
        self._train = train
        self._centroids = {modality: train.prototypes(modality) for modality in Modality}
        self._gaps = {modality: self._gap(train, modality) for modality in Modality}

    def __call__(
        self,
        embeddings: Mapping[Modality, Tensor],
        positions: Mapping[Modality, Tensor],
        margin: float,
        hinge: Hinge,
    ) -> AQALValue:
        """Sum of both modalities' losses on adversarial embeddings of the images at ``positions``."""
        losses, active = [], []
        for modality, embedding in embeddings.items():
            inner = self.excess(embedding, modality, positions[modality]) / self._gaps[modality] + margin
            losses.append((softplus(inner) if hinge == "soft" else inner.clamp_min(0)).mean())
            active.append((torch.sigmoid(inner) if hinge == "soft" else (inner > 0).to(inner)).mean().item())
        return AQALValue(torch.stack(losses).sum(), sum(active) / len(active))

    def excess(self, embedding: Tensor, modality: Modality, positions: Tensor) -> Tensor:
        """D(x, c_k) - D(x, c_j) for N embeddings and all C - 1 other identities, N x (C - 1)."""
        labels = self._train[modality].labels[positions.to(self._train[modality].labels.device)].cpu()
        own = torch.searchsorted(self._train.identities, labels).to(embedding.device)
        distance = pairwise_squared(embedding, self._centroids[modality.other], self._similarity)
        others = torch.ones_like(distance, dtype=torch.bool).scatter_(1, own[:, None], False)
        return distance[others].view(len(distance), -1) - distance.gather(1, own[:, None])

    def _gap(self, train: TrainingView, modality: Modality) -> float:
        distance = pairwise_squared(
            train[modality].embeddings, self._centroids[modality.other], self._similarity
        )
        return max((distance.mean() - distance.amin(1).mean()).item(), 1e-12)
