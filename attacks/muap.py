"""List-wise universal perturbation: lower the average precision of a whole ranking list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor

from vbench.attacks.base import UniversalAttack
from vbench.attacks.distances import pairwise_squared, unsquared
from vbench.attacks.perturbation import Perturbation
from vbench.attacks.training import TrainingView
from vbench.attacks.updates import learn_delta, updates_for
from vbench.core.settings import param
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.victims.base import Victim

#: ImageNet's standard deviations, the units of the total variation and its weight.
_DEVIATIONS = (0.229, 0.224, 0.225)

#: A fit that keeps more than this share of the first updates' soft mAP has hardly changed the ranking.
_HARDLY = 0.9


@dataclass(frozen=True)
class MUAP(UniversalAttack):
    """Lower a differentiable average precision (in the style of Ding et al. 2021).

    A perturbed training image x' = x + d of one modality is a query; its ranked list are the clean embeddings
    of all training images of the batch's identities in the other modality. Every update lowers, summed over
    both modalities, the mean of AP(x') + ``smooth`` TV(x'), where AP is the average precision computed from
    soft histograms of distances (:func:`soft_average_precision`) and TV the total variation, which is meant
    to help transfer. Both modalities share d and each passes through its own stem; every update has equally
    many images of both. v(t+1) = ``momentum`` v(t) + g / mean |g|, and a step of sign v(t+1), clipped to the
    budget.

    The preset "paper" has the authors' weight of the total variation (10), five bins, momentum 0.4 and a
    batch of 32. On small or noisy images that weight lets the total variation determine the signs and the
    ranking hardly changes, which gives a warning; ``smooth=0`` is the list-wise loss alone. Their rescaling
    that moves four fifths of all pixels to the bound after an epoch is left out, because signed steps do that
    already. The paper's code does not say how long it trains; ``effort=published`` is ten times the standard.
    """

    name: ClassVar[str] = "muap"
    version: ClassVar[int] = 2
    summary: ClassVar[str] = "universal: lowers the average precision of whole lists, with total variation"
    paper: ClassVar[str] = "Ding et al., Beyond Universal Person Re-Identification Attack, TIFS 2021"

    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper": {"batch": 32, "bins": 5, "smooth": 10.0, "momentum": 0.4},
        "best": {},
        "v1": {"evaluations": 12800, "batch": 64, "bins": 5, "smooth": 10.0, "momentum": 0.4},
    }
    EFFORTS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "standard": {"evaluations": 12800},
        "published": {"evaluations": 128_000},
    }

    evaluations: Annotated[int, Field(ge=1)] = param(12800, "gradient evaluations (images) to spend")
    batch: Annotated[int, Field(ge=4)] = param(16, "images per update, half of each modality")
    bins: Annotated[int, Field(ge=2)] = param(5, "bins of the distance histogram")
    smooth: Annotated[float, Field(ge=0)] = param(0.0, "weight of the total variation")
    step_size: Annotated[float, Field(gt=0)] | None = param(None, "pixel units; none means eps/10")
    momentum: Annotated[float, Field(ge=0)] = param(0.9, "share of the past direction that is kept")

    def learn(
        self, victim: Victim, train: TrainingView, threat: ThreatModel, generator: Generator, quiet: bool
    ) -> Perturbation:
        train.check_two(self.name)
        count = min(self.batch // 2, len(train.identities))
        precisions: list[float] = []

        def objective(delta: Tensor) -> Tensor:
            identities, positions = train.pairs(count, generator)
            total = delta.new_zeros(())
            for modality in Modality:
                images = (train[modality].batch(positions[modality]) + delta).clamp(0, 1)
                embedding = victim(images, modality).embedding
                others = train[modality.other]
                listed = torch.isin(others.labels.cpu(), identities).to(others.embeddings.device)
                distances = list_distances(embedding, others.embeddings[listed], victim.similarity)
                labels = others.labels.to(distances.device)[listed]
                matches = identities.to(distances.device)[:, None] == labels[None, :]
                limits = (0.0, 2.0) if victim.similarity == "cosine" else None
                precision = soft_average_precision(distances, matches, self.bins, limits).mean()
                precisions.append(float(precision.detach()))
                total = total - precision
                if self.smooth:
                    total = total - self.smooth * total_variation(images)
            return total

        updates = updates_for(self.evaluations, 2 * count, self.name)
        delta = learn_delta(
            (3, *victim.input_size),
            objective,
            threat,
            generator,
            updates,
            self.step_size or threat.epsilon / 10,
            self.momentum,
            train[Modality.VISIBLE].embeddings,
            f"learning {self.name}",
            quiet,
        )
        few = max(2, 2 * (updates // 10))
        first, last = mean(precisions[:few]), mean(precisions[-few:])
        log: dict[str, object] = {"first_soft_map": first, "soft_map": last, "updates": updates}
        if self.smooth and last > _HARDLY * first:
            log["warnings"] = [
                f"{self.name}: the total variation (smooth={self.smooth:g}) outweighs the ranking loss: "
                f"its soft mAP went from {first:.3f} to {last:.3f}; smooth=0 is the ranking loss alone"
            ]
        return Perturbation(delta, fit_log=log)


def list_distances(queries: Tensor, listed: Tensor, similarity: str) -> Tensor:
    """N x M distances that rank as the victim does: Euclidean, or the ranking distance of dot products."""
    return unsquared(pairwise_squared(queries, listed, similarity), similarity)


def soft_average_precision(
    distances: Tensor, matches: Tensor, bins: int, limits: tuple[float, float] | None = None
) -> Tensor:
    """Average precision of N lists of M entries, differentiable in ``distances`` (N x M); N values in [0, 1].

    Each distance is shared between the two nearest of ``bins`` evenly spaced centres by its closeness to
    them; precision is the running share of ``matches`` (N x M, true where the entry is a match) and recall
    grows by each bin's matches. ``limits`` are the first and last centre, None for the smallest and largest
    distance. A list without a match has precision 0.
    """
    low, high = limits or torch.stack(distances.detach().aminmax()).tolist()
    gap = max(high - low, 1e-12) / (bins - 1)
    centres = low + gap * torch.arange(bins, dtype=distances.dtype, device=distances.device)
    shares = (1 - (distances[None] - centres.view(-1, 1, 1)).abs() / gap).clamp_min(0)
    right = (shares * matches).sum(2)
    found, seen = right.cumsum(0), shares.sum(2).cumsum(0)
    recall = right / matches.sum(1).clamp_min(1)
    return (found / seen.clamp_min(1e-12) * recall).sum(0)


def total_variation(images: Tensor) -> Tensor:
    """Squared differences of neighbours in units of ImageNet's standard deviations: twice the mean over
    pixels and images of their sum over channels, vertical plus horizontal."""
    deviations = torch.tensor(_DEVIATIONS, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    scaled = images / deviations
    vertical = scaled.diff(dim=2).square().sum(1).mean()
    return 2 * (vertical + scaled.diff(dim=3).square().sum(1).mean())
