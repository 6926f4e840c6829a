"""Attacks on the identity classifier, through torchattacks.

The label is the victim's own prediction on the clean image: test identities are not among its classes, so
"away from the predicted training identity" is the only meaning a classification attack can have here.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torchattacks
from pydantic import Field
from torch import Tensor, nn

from vbench.attacks.base import Context, PerImageAttack
from vbench.core.errors import VbenchError
from vbench.core.settings import param
from vbench.core.types import Modality
from vbench.victims.base import Victim

Steps = Annotated[int, Field(ge=1)]
StepSize = Annotated[float, Field(gt=0)] | None


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
    """One torchattacks attack on the predicted training identity."""

    needs: ClassVar[frozenset[str]] = frozenset({"gradients", "logits"})

    @abstractmethod
    def engine(self, classifier: Classifier, eps: float) -> torchattacks.attack.Attack:
        """The torchattacks object that crafts the images."""

    def craft(self, victim: Victim, images: Tensor, modality: Modality, context: Context) -> Tensor:
        classifier = Classifier(victim, modality).eval()
        predicted = predictions(classifier, images, context)
        return self.engine(classifier, context.threat.epsilon)(images, predicted)


@dataclass(frozen=True)
class FGSM(ClassificationAttack):
    """Fast gradient sign method: one step of size eps (Goodfellow et al. 2015, section 4)."""

    name: ClassVar[str] = "fgsm"
    version: ClassVar[int] = 1
    gradients_per_image: ClassVar[int] = 1
    summary: ClassVar[str] = "one signed step on the cross-entropy of the identity classifier"
    paper: ClassVar[str] = "Goodfellow et al., Explaining and Harnessing Adversarial Examples, ICLR 2015"

    def engine(self, classifier: Classifier, eps: float) -> torchattacks.attack.Attack:
        return torchattacks.FGSM(classifier, eps=eps)


@dataclass(frozen=True)
class PGD(ClassificationAttack):
    """Projected gradient descent from the clean image (Madry et al. 2018, section 2.1).

    No random start: torchattacks takes it from global random state, so an image would depend on its batch.
    ``step_size`` None means eps/4, the library's 2/255 at 8/255.
    """

    name: ClassVar[str] = "pgd"
    version: ClassVar[int] = 1
    gradients_per_image: ClassVar[int] = 10
    summary: ClassVar[str] = "projected signed steps on the cross-entropy of the identity classifier"
    paper: ClassVar[str] = (
        "Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018"
    )

    steps: Steps = param(10, "number of gradient steps")
    step_size: StepSize = param(None, "size of a step in pixel units; none means eps/4")

    def engine(self, classifier: Classifier, eps: float) -> torchattacks.attack.Attack:
        alpha = self.step_size or eps / 4
        return torchattacks.PGD(classifier, eps=eps, alpha=alpha, steps=self.steps, random_start=False)


@dataclass(frozen=True)
class MIFGSM(ClassificationAttack):
    """Momentum iterative FGSM (Dong et al. 2018, algorithm 1). ``step_size`` None means eps/4."""

    name: ClassVar[str] = "mifgsm"
    version: ClassVar[int] = 1
    gradients_per_image: ClassVar[int] = 10
    summary: ClassVar[str] = "signed steps with momentum on the cross-entropy of the identity classifier"
    paper: ClassVar[str] = "Dong et al., Boosting Adversarial Attacks with Momentum, CVPR 2018"

    steps: Steps = param(10, "number of gradient steps")
    step_size: StepSize = param(None, "size of a step in pixel units; none means eps/4")
    momentum: Annotated[float, Field(ge=0)] = param(1.0, "share of the past direction that is kept")

    def engine(self, classifier: Classifier, eps: float) -> torchattacks.attack.Attack:
        alpha = self.step_size or eps / 4
        return torchattacks.MIFGSM(classifier, eps=eps, alpha=alpha, steps=self.steps, decay=self.momentum)
