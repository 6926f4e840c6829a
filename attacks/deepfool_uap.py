"""Universal adversarial perturbation from minimal perturbations of single images, in its retrieval form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor

from vbench.attacks.base import UniversalAttack
from vbench.attacks.distances import pairwise_squared
from vbench.attacks.perturbation import Perturbation
from vbench.attacks.training import TrainingView
from vbench.attacks.updates import refuse_unmoved
from vbench.core.errors import VbenchError
from vbench.core.processes import broadcast
from vbench.core.progress import track
from vbench.core.settings import param
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.victims.base import Victim


@dataclass(frozen=True)
class DeepFoolUAP(UniversalAttack):
    """Sum minimal perturbations of training images, each found by DeepFool, into one d.

    Moosavi-Dezfooli et al., CVPR 2017, algorithm 1, in retrieval form: the decision about an image x of one
    modality is the training identity k(x) whose clean centroid c(k) in the other modality is nearest to its
    embedding f(x), because a cross-modality query is ranked against the other modality; the paper's decision
    is the class of a classifier. For every image of a batch that d does not fool yet, k(x + d) = k(x),
    DeepFool (Moosavi-Dezfooli et al., CVPR 2016, algorithm 2) looks for the smallest r with k(x + d + r) !=
    k(x): with s(k) = -D(f, c(k)) / 2, the squared distance the victim ranks by, and w(k) the gradient of s(k)
    - s(k(x)) at x + d + r, it takes the rival k with the smallest |s(k) - s(k(x))| / ||w(k)|| among the
    ``rivals`` nearest ones and adds |s(k) - s(k(x))| / ||w(k)||^2 w(k) to r, up to ``iterations`` times. Then
    d becomes P(d + sum of (1 + ``overshoot``) r), with P the projection into the budget. It ends when a pass
    over the training identities finds the share ``fooled`` of images fooled, or when the gradient evaluations
    are spent.

    Images come in batches of both modalities; ``batch=2``, one of each, is nearest to the published order,
    where d moves after every image. The preset "paper" has that and what the authors' code has: nine rivals,
    ten iterations, an overshoot of 0.02 and a fooling rate of 0.8. ``effort=published`` is sized as ten
    passes over 10,000 images.
    """

    name: ClassVar[str] = "deepfool_uap"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "universal: sums minimal perturbations that change the nearest training identity"
    paper: ClassVar[str] = "Moosavi-Dezfooli et al., Universal Adversarial Perturbations, CVPR 2017"
    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper": {"batch": 2, "rivals": 9, "iterations": 10, "overshoot": 0.02, "fooled": 0.8},
        "best": {},
    }
    EFFORTS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "standard": {"evaluations": 12800},
        "published": {"evaluations": 100_000},
    }

    evaluations: Annotated[int, Field(ge=1)] = param(12800, "gradient evaluations (images) to spend at most")
    batch: Annotated[int, Field(ge=2)] = param(16, "images between changes of d, half of each modality")
    rivals: Annotated[int, Field(ge=1)] = param(1, "nearest other identities that DeepFool considers")
    iterations: Annotated[int, Field(ge=1)] = param(10, "steps of DeepFool for one image")
    overshoot: Annotated[float, Field(ge=0)] = param(
        0.02, "share by which a minimal perturbation is extended"
    )
    fooled: Annotated[float, Field(gt=0, le=1)] = param(
        1.0, "share of fooled images in a pass that ends the fit"
    )

    def learn(
        self, victim: Victim, train: TrainingView, threat: ThreatModel, generator: Generator, quiet: bool
    ) -> Perturbation:
        train.check_two(self.name)
        pairs = min(self.batch // 2, len(train.identities))
        minimal = _Minimal(victim, train, self)
        delta = torch.zeros((1, 3, *victim.input_size)).to(train[Modality.VISIBLE].embeddings)
        batches = math.ceil(len(train.identities) / pairs)
        rates: list[float] = []
        for _ in track(range(self.evaluations), f"learning {self.name}", quiet=quiet):
            seen, already = 0, 0
            for _ in range(batches):
                _, positions = train.pairs(pairs, generator)
                for modality, index in positions.items():
                    change, fooled = minimal.change(delta, modality, index)
                    delta = (delta + (1 + self.overshoot) * change).clamp(-threat.epsilon, threat.epsilon)
                    seen, already = seen + len(index), already + fooled
            rates.append(already / seen)
            if rates[-1] >= self.fooled or not minimal.affordable:
                break
        refuse_unmoved(bool(delta.any()), f"learning {self.name}")
        return Perturbation(delta[0], fit_log={"fooling_rates": rates, "passes": len(rates)})


class _Minimal:
    """DeepFool on batches of training images, within the attack's gradient evaluations."""

    def __init__(self, victim: Victim, train: TrainingView, attack: DeepFoolUAP) -> None:
        self.victim, self.train, self.attack = victim, train, attack
        self.centroids = {modality: train.prototypes(modality.other) for modality in Modality}
        self.rivals = min(attack.rivals, len(train.identities) - 1)
        self.spent = 0

    @property
    def affordable(self) -> int:
        """The steps of DeepFool that the evaluations left pay for: each takes one for every rival."""
        return (self.attack.evaluations - self.spent) // self.rivals

    def change(self, delta: Tensor, modality: Modality, index: Tensor) -> tuple[Tensor, int]:
        """The sum of the minimal changes of the images that ``delta`` does not fool, and how many it does."""
        view = self.train[modality]
        images, own = view.batch(index), self._scores(view.embeddings[index], modality).argmax(1)
        with torch.no_grad():
            left = self._decided(images + delta, modality) == own
        images, own = images[left], own[left]
        changes, open_ = torch.zeros_like(images), torch.arange(len(images), device=images.device)
        for _ in range(self.attack.iterations):
            open_ = open_[: self.affordable]
            if not len(open_):
                break
            points = images[open_] + delta + (1 + self.attack.overshoot) * changes[open_]
            changes[open_] += self._toward_boundary(points, own[open_], modality)
            points = images[open_] + delta + (1 + self.attack.overshoot) * changes[open_]
            open_ = open_[self._decided(points, modality) == own[open_]]
        return changes.sum(0, keepdim=True), len(index) - len(images)

    def _toward_boundary(self, points: Tensor, own: Tensor, modality: Modality) -> Tensor:
        """The step of each of N points to the nearest linearised boundary, N x 3 x H x W."""
        count = self.rivals
        copies = points.repeat_interleave(count, 0).requires_grad_(True)
        with torch.enable_grad():
            scores = self._scores(self.victim(copies.clamp(0, 1), modality).embedding, modality)
            self.spent += len(copies)
            others = scores.detach()[::count].scatter(1, own[:, None], -torch.inf).topk(count, dim=1).indices
            gaps = scores.gather(1, others.reshape(-1, 1)) - scores.gather(
                1, own.repeat_interleave(count)[:, None]
            )
            (gradient,) = broadcast(torch.autograd.grad(gaps.sum(), copies))
        if not bool(torch.isfinite(gradient).all()):
            raise VbenchError(f"learning {self.attack.name}: the objective or its gradient is not finite")
        length = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
        near = (gaps.detach()[:, 0].abs() / length).view(-1, count).argmin(1)
        chosen = near + count * torch.arange(len(points), device=near.device)
        # A little more than the gap, as the authors' code: at the boundary itself the decision is unchanged.
        size = (gaps.detach()[chosen, 0].abs() + 1e-4) / length[chosen].square()
        return size.view(-1, 1, 1, 1) * gradient[chosen]

    @torch.no_grad()
    def _decided(self, points: Tensor, modality: Modality) -> Tensor:
        """The nearest identity of each of N points."""
        if not len(points):
            return torch.zeros(0, dtype=torch.int64, device=points.device)
        return self._scores(self.victim(points.clamp(0, 1), modality).embedding, modality).argmax(1)

    def _scores(self, embeddings: Tensor, modality: Modality) -> Tensor:
        return -pairwise_squared(embeddings, self.centroids[modality], self.victim.similarity) / 2
