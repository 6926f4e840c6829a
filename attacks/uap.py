"""Universal adversarial perturbation for retrieval, and its cross-entropy variant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from vbench.attacks.distances import pairwise_squared, squared_distance
from vbench.attacks.perturbation import Perturbation
from vbench.attacks.training import TrainingView
from vbench.attacks.updates import UpdatedAttack, by_modality, updates_for
from vbench.core.errors import BadInput
from vbench.core.settings import param
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.victims.base import Victim


@dataclass(frozen=True)
class UAP(UpdatedAttack):
    """One perturbation for both modalities that breaks neighbourhoods in embedding space (Li et al. 2019).

    Prototypes are the other modality's clean training centroids, because a cross-modality query is ranked
    against the other modality. ``loss``: "pair" raises D(x, nearest) - D(x, farthest), whose gradient is
    equation 6 as the authors corrected it; "list" the same over all pairs m < n of the prototype ranking
    (equation 7, corrected; summed in closed form); "cross_entropy" the classifier's loss on its own clean
    prediction. D is the squared distance the victim ranks by.
    """

    name: ClassVar[str] = "uap"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "universal: away from the nearest training prototypes, toward the farthest"
    paper: ClassVar[str] = "Li et al., Universal Perturbation Attack Against Image Retrieval, ICCV 2019"

    loss: Literal["pair", "list", "cross_entropy"] = param("pair", "pair, list or cross_entropy")
    evaluations: Annotated[int, Field(ge=1)] = param(12800, "gradient evaluations (images) to spend")
    batch: Annotated[int, Field(ge=2)] = param(64, "images per update, half of each modality")

    def check(self, victim: Victim, threat: ThreatModel) -> None:
        super().check(victim, threat)
        if self.loss == "cross_entropy" and not victim.num_classes:
            raise BadInput(
                f"uap with loss=cross_entropy needs an identity classifier; {victim.name} has none"
            )

    def learn(
        self,
        victim: Victim,
        train: TrainingView,
        threat: ThreatModel,
        generator: torch.Generator,
        quiet: bool,
    ) -> Perturbation:
        pairs = min(self.batch // 2, len(train.identities))
        prototypes = {modality: train.prototypes(modality) for modality in Modality}

        def objective(delta: Tensor) -> Tensor:
            _, positions = train.pairs(pairs, generator)
            terms = []
            for modality, own in by_modality(delta).items():
                view, index = train[modality], positions[modality]
                output = victim((view.batch(index) + own).clamp(0, 1), modality)
                if self.loss == "cross_entropy":
                    terms.append(view.identity_loss(output.logits, index))
                else:
                    others = prototypes[modality.other]
                    terms.append(self._damage(output.embedding, view.embeddings[index], others, victim))
            return torch.stack(terms).sum()

        updates = updates_for(self.evaluations, 2 * pairs, self.name)
        delta = self.climb(victim, train, objective, threat, generator, updates, 2 * pairs, quiet)
        return Perturbation(delta)

    def _damage(self, embedding: Tensor, clean: Tensor, prototypes: Tensor, victim: Victim) -> Tensor:
        ranked = pairwise_squared(clean, prototypes, victim.similarity)
        if self.loss == "pair":
            near, far = prototypes[ranked.argmin(1)], prototypes[ranked.argmax(1)]
            gain = squared_distance(embedding, near, victim.similarity)
            return (gain - squared_distance(embedding, far, victim.similarity)).mean()
        # The sum of D(m) - D(n) over all m ranked before n counts rank r with weight (count - 1 - 2 r).
        count = prototypes.shape[0]
        weights = torch.arange(count - 1, -count, -2, device=clean.device).to(clean) / max(count - 1, 1)
        distance = pairwise_squared(embedding, prototypes, victim.similarity).gather(1, ranked.argsort(1))
        return (distance * weights).mean()
