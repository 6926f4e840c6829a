"""Deep mis-ranking: a generator that learns to reverse the order of a ranking list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy, one_hot

from vbench.attacks.base import UniversalAttack
from vbench.attacks.distances import Distance, pairwise_squared, unsquared
from vbench.attacks.perturbation import GENERATOR, Perturbation, PerturbationGenerator, new_generator
from vbench.attacks.training import TrainingView
from vbench.attacks.updates import updates_for
from vbench.core.errors import BadInput, VbenchError
from vbench.core.processes import broadcast
from vbench.core.progress import track
from vbench.core.settings import param
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.victims.base import Victim

#: Label smoothing of the mis-classification loss, and the smallest loss whose logarithm is taken.
_SMOOTHING, _TINY = 0.1, 1e-12


@dataclass(frozen=True)
class MisRanking(UniversalAttack):
    """Train one generator G on training identities, then let it change each image: x' = x + G(x) (DMR).

    Wang et al. 2020. All images share the generator, not the change: its output is eps * tanh and depends on
    the image. With f the embedding of x', p and n the clean embeddings of the own and of other identities of
    the batch in the other modality (a cross-modality query is ranked against that modality; theirs are the
    other adversarial images of the batch), every update of Adam lowers the mean over the batch of the
    mis-ranking loss

        L = [max D(f, n) - min D(f, p) + margin]_+

    the authors' triplet loss for the reversed ranking (equation 1), and with ``classes`` of the
    mis-classification loss: the cross-entropy toward the class that the classifier finds least likely,
    smoothed over the classes that are not in the batch (equation 2). ``log`` lowers the logarithm of each
    loss instead, as their code does. Both modalities share the generator and each passes through its own
    stem.

    The preset "paper" has the published distance (not squared), both losses and their logarithms; margin,
    batch, optimiser, width and blocks are the published ones, and ``effort=published`` is their fifty epochs
    over Market-1501's 12,936 training images. Parts that hide the change at a large budget are left out: the
    discriminator with its mask and the structural-similarity term. Instance normalisation replaces their
    batch normalisation and makes their spectral normalisation void.
    """

    name: ClassVar[str] = "mis_ranking"
    version: ClassVar[int] = 2
    summary: ClassVar[str] = "a generator learnt on training identities turns each image's ranking around"
    paper: ClassVar[str] = (
        "Wang et al., Transferable, Controllable, and Inconspicuous Adversarial Attacks on Person "
        "Re-identification With Deep Mis-Ranking, CVPR 2020"
    )

    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper": {"distance": "euclidean", "log": True, "classes": True},
        "best": {},
        "v1": {"evaluations": 12800, "distance": "squared", "log": False, "classes": False},
    }
    EFFORTS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "standard": {"evaluations": 12800},
        "published": {"evaluations": 50 * 12_936},
    }

    evaluations: Annotated[int, Field(ge=1)] = param(12800, "gradient evaluations (images) to spend")
    batch: Annotated[int, Field(ge=4)] = param(32, "images per update, half of each modality")
    margin: Annotated[float, Field(ge=0)] = param(0.3, "margin of the mis-ranking loss")
    rate: Annotated[float, Field(gt=0)] = param(2e-4, "learning rate of the generator (Adam)")
    width: Annotated[int, Field(ge=1)] = param(32, "channels of the generator's first layer")
    blocks: Annotated[int, Field(ge=0)] = param(6, "residual blocks of the generator")
    distance: Distance = param("squared", "distance of the mis-ranking loss: squared or euclidean")
    log: bool = param(False, "lower the logarithm of each loss")
    classes: bool = param(False, "lower the mis-classification loss too")

    def check(self, victim: Victim, threat: ThreatModel) -> None:
        super().check(victim, threat)
        if self.classes and not victim.num_classes:
            raise BadInput(
                f"mis_ranking with classes=true needs an identity classifier; {victim.name} has none"
            )

    def learn(
        self, victim: Victim, train: TrainingView, threat: ThreatModel, generator: Generator, quiet: bool
    ) -> Perturbation:
        train.check_two(self.name)
        count = min(self.batch // 2, len(train.identities))
        updates = updates_for(self.evaluations, 2 * count, self.name)
        like = train[Modality.VISIBLE].embeddings
        network = new_generator(self.width, self.blocks, threat.epsilon, generator).to(like)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.rate, betas=(0.5, 0.999))
        losses: list[float] = []
        moved = False
        for _ in track(range(updates), f"learning {self.name}", quiet=quiet):
            identities, positions = train.pairs(count, generator)
            terms = [
                self._loss(victim, train, network, modality, identities, positions[modality])
                for modality in Modality
            ]
            loss = torch.stack(terms).sum()
            losses.append(float(loss.detach()))
            gradients = broadcast(torch.autograd.grad(loss, list(network.parameters())))
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter.grad = gradient
            if not all(bool(torch.isfinite(value).all()) for value in (loss, *gradients)):
                raise VbenchError(f"learning {self.name}: the loss or its gradient is not finite")
            moved = moved or any(bool(gradient.any()) for gradient in gradients)
            optimizer.step()
        if not moved:
            raise VbenchError(f"learning {self.name}: the loss has no gradient; raise the margin")
        weights = {
            f"{GENERATOR}{name}": value.detach().clone() for name, value in network.state_dict().items()
        }
        log = {"first_loss": losses[0], "last_loss": losses[-1], "updates": updates}
        return Perturbation(torch.zeros((3, *victim.input_size)).to(like), weights, fit_log=log)

    def _loss(
        self,
        victim: Victim,
        train: TrainingView,
        network: PerturbationGenerator,
        modality: Modality,
        identities: Tensor,
        positions: Tensor,
    ) -> Tensor:
        images, others = train[modality].batch(positions), train[modality.other]
        output = victim((images + network(images)).clamp(0, 1), modality)
        listed = torch.isin(others.labels.cpu(), identities)
        matches = identities[:, None] == others.labels.cpu()[listed][None, :]
        rows = others.embeddings[listed.to(others.embeddings.device)]
        losses = [
            mis_ranking_loss(
                output.embedding, rows, matches.to(rows.device), self.margin, victim.similarity, self.distance
            ).mean()
        ]
        if self.classes:
            losses.append(mis_classification_loss(output.logits, identities))
        total = torch.stack(losses)
        return (total.clamp_min(_TINY).log() if self.log else total).sum()


def mis_ranking_loss(
    queries: Tensor,
    listed: Tensor,
    matches: Tensor,
    margin: float,
    similarity: str,
    distance: Distance = "squared",
) -> Tensor:
    """[farthest non-match - nearest match + margin]_+ for N queries against M entries; N values.

    ``matches``: N x M, true where the entry has the query's identity; every row must have matches and
    non-matches. The distance is the one the victim ranks by, squared or not.
    """
    distances = pairwise_squared(queries, listed, similarity)
    if distance == "euclidean":
        distances = unsquared(distances, similarity)
    farthest = distances.masked_fill(matches, -torch.inf).amax(1)
    nearest = distances.masked_fill(~matches, torch.inf).amin(1)
    return (farthest - nearest + margin).clamp_min(0)


def mis_classification_loss(logits: Tensor | None, identities: Tensor) -> Tensor:
    """Mean cross-entropy of N x C logits with targets of nine tenths for each row's least likely class.

    The last tenth has 1 / (C - 1) for every class that is not one of ``identities``.
    """
    if logits is None:
        raise VbenchError("the victim declares an identity classifier and gives no logits")
    target = torch.full_like(logits, _SMOOTHING / (logits.shape[1] - 1))
    target[:, identities[identities < logits.shape[1]].to(logits.device)] = 0
    target += (1 - _SMOOTHING) * one_hot(logits.argmin(1), logits.shape[1])
    return cross_entropy(logits, target)
