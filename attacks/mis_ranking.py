"""Deep mis-ranking: a generator that learns to reverse the order of a ranking list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from vbench.attacks.base import UniversalAttack
from vbench.attacks.distances import pairwise_squared
from vbench.attacks.perturbation import GENERATOR, Generator, Perturbation, new_generator
from vbench.attacks.training import TrainingView
from vbench.attacks.updates import updates_for
from vbench.core.errors import BadInput, VbenchError
from vbench.core.processes import broadcast
from vbench.core.progress import track
from vbench.core.settings import param
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.victims.base import Victim


@dataclass(frozen=True)
class MisRanking(UniversalAttack):
    """Train one generator on training identities, then let it change each image (Wang et al. 2020).

    All images share the generator, not the change: its output is eps * tanh and depends on the image. It
    lowers the mis-ranking loss [max D(f, n) - min D(f, p) + margin]_+ (the authors' triplet loss for the
    reversed ranking), with p and n the clean embeddings of the own and of other identities of the batch in
    the other modality, because a cross-modality query is ranked against that modality. Both modalities share
    the generator and each passes through its own stem.

    Parts of the published method that hide the change at a large budget or supervise it otherwise are left
    out: the discriminator with its mask, the structural-similarity term and the mis-classification loss.
    Instance normalisation replaces their batch normalisation and makes their spectral normalisation void.
    Width, blocks, optimiser and margin are the published ones; the authors train for 50 epochs, for which
    ``evaluations`` can be raised.
    """

    name: ClassVar[str] = "mis_ranking"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "a generator learnt on training identities turns each image's ranking around"
    paper: ClassVar[str] = (
        "Wang et al., Transferable, Controllable, and Inconspicuous Adversarial Attacks on Person "
        "Re-identification With Deep Mis-Ranking, CVPR 2020"
    )

    evaluations: Annotated[int, Field(ge=1)] = param(12800, "gradient evaluations (images) to spend")
    batch: Annotated[int, Field(ge=4)] = param(32, "images per update, half of each modality")
    margin: Annotated[float, Field(ge=0)] = param(0.3, "margin of the mis-ranking loss")
    rate: Annotated[float, Field(gt=0)] = param(2e-4, "learning rate of the generator (Adam)")
    width: Annotated[int, Field(ge=1)] = param(32, "channels of the generator's first layer")
    blocks: Annotated[int, Field(ge=0)] = param(6, "residual blocks of the generator")

    def learn(
        self,
        victim: Victim,
        train: TrainingView,
        threat: ThreatModel,
        generator: torch.Generator,
        quiet: bool,
    ) -> Perturbation:
        if len(train.identities) < 2:
            raise BadInput("mis_ranking needs two training identities with images in both modalities")
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
        network: Generator,
        modality: Modality,
        identities: Tensor,
        positions: Tensor,
    ) -> Tensor:
        images, others = train[modality].batch(positions), train[modality.other]
        embedding = victim((images + network(images)).clamp(0, 1), modality).embedding
        listed = torch.isin(others.labels.cpu(), identities)
        matches = identities[:, None] == others.labels.cpu()[listed][None, :]
        rows = others.embeddings[listed.to(others.embeddings.device)]
        return mis_ranking_loss(
            embedding, rows, matches.to(rows.device), self.margin, victim.similarity
        ).mean()


def mis_ranking_loss(
    queries: Tensor, listed: Tensor, matches: Tensor, margin: float, similarity: str
) -> Tensor:
    """[farthest non-match - nearest match + margin]_+ for N queries against M entries; N values.

    ``matches``: N x M, true where the entry has the query's identity; every row must have matches and
    non-matches. The distance is the one the victim ranks by, squared.
    """
    distances = pairwise_squared(queries, listed, similarity)
    farthest = distances.masked_fill(matches, -torch.inf).amax(1)
    nearest = distances.masked_fill(~matches, torch.inf).amin(1)
    return (farthest - nearest + margin).clamp_min(0)
