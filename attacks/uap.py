"""Universal adversarial perturbation for retrieval, and its cross-entropy variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from vbench.attacks.distances import Distance, pairwise_squared, squared_distance, unsquared
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
    """One perturbation d for both modalities that breaks neighbourhoods in embedding space (Li et al. 2019).

    For an image x with embedding f(x), the prototypes c(1) ... c(C) are the other modality's clean training
    centroids, in the order of D(f(x), .), because a cross-modality query is ranked against the other
    modality; the authors cluster one gallery by k-means. Every update raises the mean over a batch, x' = x +
    d, of

    - ``loss`` "pair" (equation 6 as the authors corrected it): D(f(x'), c(1)) - D(f(x'), c(C)), away from the
      nearest and toward the farthest; with ``margin`` the negative hinge -[D(f(x'), c(C)) - D(f(x'), c(1)) +
      margin]_+ of their released code;
    - "list" (equation 7, corrected): the sum of w(m, n) (D(f(x'), c(m)) - D(f(x'), c(n))) over all pairs m <
      n.
      ``weighting`` "ndcg" takes the constant weights of their code, |log2(1 + r(m)) - log2(1 + r(n))| times
      s(D2(n) - D2(m)), where r ranks all prototypes by D(f(x'), .), the farthest first, D2 is half the
      squared distance and s the logistic function; "equal" takes equal ones;
    - "cross_entropy": the classifier's loss on its own clean prediction.

    D is the distance the victim ranks by, squared or not (``distance``). The preset "paper" has the authors'
    plain distance, their margin (0.8 after a scaling by 10), momentum 1, steps of eps/10 and one image an
    update (here one of each modality); their k-means, the shrinking step and the halving of a saturated d are
    left out, and d starts as small noise instead of zero. ``effort=published`` is their hundred epochs over
    a training set of 400 identities.
    """

    name: ClassVar[str] = "uap"
    version: ClassVar[int] = 2
    summary: ClassVar[str] = "universal: away from the nearest training prototypes, toward the farthest"
    paper: ClassVar[str] = "Li et al., Universal Perturbation Attack Against Image Retrieval, ICCV 2019"
    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper": {"distance": "euclidean", "margin": 0.08, "momentum": 1.0, "batch": 2, "weighting": "ndcg"},
        "best": {},
        "v1": {
            "evaluations": 12800,
            "batch": 64,
            "weighting": "equal",
            "distance": "squared",
            "margin": None,
        },
    }
    EFFORTS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "standard": {"evaluations": 12800},
        "published": {"evaluations": 160_000},
    }

    loss: Literal["pair", "list", "cross_entropy"] = param("pair", "pair, list or cross_entropy")
    evaluations: Annotated[int, Field(ge=1)] = param(12800, "gradient evaluations (images) to spend")
    batch: Annotated[int, Field(ge=2)] = param(64, "images per update, half of each modality")
    distance: Distance = param("squared", "distance in pair and list: squared or euclidean")
    margin: Annotated[float, Field(ge=0)] | None = param(None, "pair: margin of a hinge; none is no hinge")
    weighting: Literal["ndcg", "equal"] = param("ndcg", "list: weights of the pairs")

    def check(self, victim: Victim, threat: ThreatModel) -> None:
        super().check(victim, threat)
        if self.loss == "cross_entropy" and not victim.num_classes:
            raise BadInput(
                f"uap with loss=cross_entropy needs an identity classifier; {victim.name} has none"
            )

    def learn(
        self, victim: Victim, train: TrainingView, threat: ThreatModel, generator: Generator, quiet: bool
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
                    terms.append(view.identity_loss(output, index))
                else:
                    others = prototypes[modality.other]
                    terms.append(self._damage(output.embedding, view.embeddings[index], others, victim))
            return torch.stack(terms).sum()

        updates = updates_for(self.evaluations, 2 * pairs, self.name)
        delta = self.climb(victim, train, objective, threat, generator, updates, 2 * pairs, quiet)
        return Perturbation(delta)

    def _damage(self, embedding: Tensor, clean: Tensor, prototypes: Tensor, victim: Victim) -> Tensor:
        similarity = victim.similarity
        ranked = pairwise_squared(clean, prototypes, similarity)
        if self.loss == "pair":
            ends = [
                self._own(squared_distance(embedding, prototypes[end], similarity), similarity)
                for end in (ranked.argmin(1), ranked.argmax(1))
            ]
            gain = ends[0] - ends[1]
            return gain.mean() if self.margin is None else -(self.margin - gain).clamp_min(0).mean()
        squared = pairwise_squared(embedding, prototypes, similarity).gather(1, ranked.argsort(1))
        count = prototypes.shape[0]
        if self.weighting == "ndcg":
            weights = list_weights(squared.detach() / 2)
        else:
            # The sum of D(m) - D(n) over all m ranked before n counts rank r with weight (count - 1 - 2 r).
            weights = torch.arange(count - 1, -count, -2, device=clean.device).to(clean) / max(count - 1, 1)
        return (self._own(squared, similarity) * weights).mean()

    def _own(self, squared: Tensor, similarity: str) -> Tensor:
        return squared if self.distance == "squared" else unsquared(squared, similarity)


def list_weights(distances: Tensor) -> Tensor:
    """N x C weights of distances to prototypes in clean order, from their N x C values under attack.

    The weight of rank m is the sum of w(m, n) over later ranks n minus that of w(l, m) over earlier ranks l,
    with w as in :class:`UAP`, over their mean.
    """
    count = distances.shape[1]
    place = distances.argsort(1, descending=True).argsort(1)
    gain = (place + 2.0).log2().to(distances)
    change = (gain[:, :, None] - gain[:, None, :]).abs()
    pairs = (change * torch.sigmoid(distances[:, None, :] - distances[:, :, None])).triu(1)
    return (pairs.sum(2) - pairs.sum(1)) / change.mean((1, 2))[:, None] / max(count - 1, 1)
