"""Attacks on the identity classifier.

The label is the victim's own prediction on the clean image: test identities are not among its classes, so
"away from the predicted training identity" is the only meaning a classification attack can have here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vbench.attacks.base import Context, PerImageAttack
from vbench.attacks.steps import IterativeAttack, MomentumAttack, Objective, ascend, noisy
from vbench.core.errors import VbenchError
from vbench.core.settings import param
from vbench.core.types import Modality
from vbench.victims.base import Victim


class Classifier(nn.Module):
    """A victim as a plain classifier of one modality: N x 3 x H x W in [0, 1] -> N x C logits."""

    def __init__(self, victim: Victim, modality: Modality) -> None:
        super().__init__()
        self.victim = victim
        self.modality = modality

    def forward(self, images: Tensor) -> Tensor:
        logits = self.victim(images, self.modality).logits
        if logits is None:
            raise VbenchError(f"{self.victim.name} declares an identity classifier and gives no logits")
        return logits


def predictions(classifier: Classifier, images: Tensor, context: Context) -> Tensor:
    """N classes predicted for the clean images, from the context or, if it has none, from the victim."""
    if context.predictions is not None:
        return context.predictions.to(images.device)
    with torch.no_grad():
        return classifier(images).argmax(1)


class ClassificationAttack(PerImageAttack):
    """Raises the cross-entropy CE(logits(x'), y), with y the class predicted for the image x."""

    needs: ClassVar[frozenset[str]] = frozenset({"gradients", "logits"})

    def objective(self, victim: Victim, images: Tensor, modality: Modality, context: Context) -> Objective:
        """N x 3 x H x W candidates for ``images`` -> their N cross-entropies."""
        classifier = Classifier(victim, modality)
        predicted = predictions(classifier, images, context)
        return lambda candidate: cross_entropy(classifier(candidate), predicted, reduction="none")


@dataclass(frozen=True)
class FGSM(ClassificationAttack):
    """Fast gradient sign method: x' = x + eps sign(gradient of CE at x) (Goodfellow et al. 2015, section 4).

    With ``start`` the gradient is taken at an image with noise, and the step ends at the budget around x.
    """

    name: ClassVar[str] = "fgsm"
    version: ClassVar[int] = 1
    gradients_per_image: ClassVar[int] = 1
    summary: ClassVar[str] = "one signed step on the cross-entropy of the identity classifier"
    paper: ClassVar[str] = "Goodfellow et al., Explaining and Harnessing Adversarial Examples, ICLR 2015"
    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = {"paper": {}, "best": {}, "v1": {}}
    EFFORTS: ClassVar[Mapping[str, Mapping[str, object]]] = {"standard": {}, "published": {}}

    start: Annotated[float, Field(ge=0, le=1)] = param(0.0, "random start, in budgets; 0 is the image itself")
    step: Annotated[float, Field(gt=0)] = param(1.0, "size of the step, in budgets")

    def craft(self, victim: Victim, images: Tensor, modality: Modality, context: Context) -> Tensor:
        objective = self.objective(victim, images, modality, context)
        start, size = noisy(images, context, self.start), self.step * context.threat.epsilon
        return ascend(images, start, objective, context.threat, 1, size)


class SteppedClassificationAttack(ClassificationAttack, IterativeAttack):
    """The step loop on the cross-entropy."""

    def craft(self, victim: Victim, images: Tensor, modality: Modality, context: Context) -> Tensor:
        return self.climb(images, self.objective(victim, images, modality, context), context)


@dataclass(frozen=True)
class PGD(SteppedClassificationAttack):
    """Projected gradient descent (Madry et al. 2018, section 2.1) on the cross-entropy.

    The preset "paper" is their evaluation on CIFAR-10: a random start in the whole budget, steps of 2/255,
    with ``effort=published`` twenty of them. "v1" is what torchattacks does without its random start: from
    the image itself, steps of eps/4.
    """

    name: ClassVar[str] = "pgd"
    version: ClassVar[int] = 2
    gradients_per_image: ClassVar[int] = 30
    summary: ClassVar[str] = "projected signed steps on the cross-entropy of the identity classifier"
    paper: ClassVar[str] = (
        "Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018"
    )
    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper": {"step_size": "2/255"},
        "best": {},
        "v1": {"steps": 10, "reach": None, "start": 0.0},
    }
    EFFORTS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        **IterativeAttack.EFFORTS,
        "published": {"steps": 20},
    }


@dataclass(frozen=True)
class MIFGSM(SteppedClassificationAttack, MomentumAttack):
    """Momentum iterative FGSM (Dong et al. 2018, algorithm 1) on the cross-entropy.

    g(t+1) = ``momentum`` g(t) + gradient / mean |gradient|, and a step of sign g(t+1). The preset "paper" is
    their section 4.1: from the image itself, steps of eps / ``steps``, momentum 1, with ``effort=published``
    ten steps. "v1" has steps of eps/4.
    """

    name: ClassVar[str] = "mifgsm"
    version: ClassVar[int] = 2
    gradients_per_image: ClassVar[int] = 30
    summary: ClassVar[str] = "signed steps with momentum on the cross-entropy of the identity classifier"
    paper: ClassVar[str] = "Dong et al., Boosting Adversarial Attacks with Momentum, CVPR 2018"
    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper": {"reach": 1.0, "start": 0.0},
        "best": {},
        "v1": {"steps": 10, "reach": None, "start": 0.0},
    }
    EFFORTS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        **IterativeAttack.EFFORTS,
        "published": {"steps": 10},
    }

    momentum: Annotated[float, Field(ge=0)] = param(1.0, "share of the past direction that is kept")
