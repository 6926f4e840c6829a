"""Training data of universal attacks: images with labels, clean embeddings and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from vbench.core.errors import BadInput, VbenchError
from vbench.core.types import Modality
from vbench.victims.base import VictimOutput


@dataclass(frozen=True)
class ModalityView:
    """Training images of one modality.

    ``images``: N x 3 x H x W uint8 in 0 .. 255, in main memory if a GPU has no room for them; ``labels``: N
    integers in 0 .. C-1; ``embeddings``: N x D, clean; ``predictions``: N class indices of the victim's
    classifier on the clean images, or None. ``centres``: C x D at unit length, the
    classifier of a victim that has none, see :meth:`TrainingView.with_centres`.
    """

    images: Tensor
    labels: Tensor
    embeddings: Tensor
    predictions: Tensor | None
    centres: Tensor | None = field(default=None, kw_only=True)

    def batch(self, index: Tensor) -> Tensor:
        """Images at ``index`` as float in [0, 1]."""
        return self.images[index].to(self.embeddings.device).to(self.embeddings.dtype) / 255

    def identity_loss(self, output: VictimOutput, index: Tensor) -> Tensor:
        """Mean cross-entropy of outputs for the images at ``index`` with the victim's clean predictions.

        Raises :class:`VbenchError` if the victim returned no logits and there are no centres.
        """
        logits = output.logits if self.centres is None else _nearness(output.embedding, self.centres)
        if logits is None or self.predictions is None:
            raise VbenchError("the victim declares an identity classifier and gives no logits")
        return cross_entropy(logits, self.predictions[index])


#: Logits are cosines times this, as in CosFace (Wang et al., CVPR 2018, section 3.3: at least about 30).
_SCALE = 30.0


def _nearness(embeddings: Tensor, centres: Tensor) -> Tensor:
    """N x C logits of embeddings (N x D): how near each is to the centre of each identity."""
    logits = _SCALE * normalize(embeddings, dim=1) @ centres.T
    # A label without images has no centre.
    return logits.masked_fill(~centres.any(1), -torch.inf)


@dataclass(frozen=True)
class TrainingView:
    """Both modalities of the training identities."""

    views: Mapping[Modality, ModalityView]

    def __getitem__(self, modality: Modality) -> ModalityView:
        return self.views[modality]

    @cached_property
    def identities(self) -> Tensor:
        """Labels that have images in both modalities, ascending."""
        visible, infrared = (set(self[modality].labels.tolist()) for modality in Modality)
        return torch.tensor(sorted(visible & infrared))

    def check_two(self, owner: str) -> None:
        """Raise :class:`BadInput` unless two identities have images in both modalities."""
        if len(self.identities) < 2:
            raise BadInput(f"{owner} needs at least two training identities with images in both modalities")

    def with_centres(self) -> TrainingView:
        """A view whose identity loss takes the nearest centre of an identity for its class.

        For victims without a classifier. A centre is the mean direction of an identity's clean embeddings in
        both modalities; predictions become the nearest centres of the clean embeddings.
        """
        views = list(self.views.values())
        # On the CPU: a GPU would add the rows of an identity in another order at each call.
        vectors = torch.cat([normalize(view.embeddings, dim=1) for view in views]).cpu()
        labels = torch.cat([view.labels for view in views]).cpu()
        total = vectors.new_zeros(int(labels.max()) + 1, vectors.shape[1]).index_add_(0, labels, vectors)
        centres = normalize(total, dim=1).to(views[0].embeddings.device)
        return TrainingView(
            {
                modality: replace(
                    view, centres=centres, predictions=_nearness(view.embeddings, centres).argmax(1)
                )
                for modality, view in self.views.items()
            }
        )

    def prototypes(self, modality: Modality) -> Tensor:
        """C x D mean clean embedding of each identity of ``identities`` in one modality."""
        view = self[modality]
        rows = torch.searchsorted(self.identities, view.labels.cpu())
        rows = rows.clamp_max(len(self.identities) - 1)
        known = self.identities[rows] == view.labels.cpu()
        # On the CPU: a GPU would add the rows of an identity in another order at each call.
        rows, embeddings = rows[known], view.embeddings.cpu()[known]
        total = embeddings.new_zeros(len(self.identities), embeddings.shape[1])
        total.index_add_(0, rows, embeddings)
        found = total / torch.bincount(rows, minlength=len(self.identities)).unsqueeze(1)
        return found.to(view.embeddings.device)

    def pairs(
        self, count: int, generator: torch.Generator, each: int = 1
    ) -> tuple[Tensor, Mapping[Modality, Tensor]]:
        """``count`` different identities and, per modality, the positions of ``each`` random images of each.

        Images of an identity are consecutive, and differ unless it has fewer than ``each``.
        """
        chosen = self.identities[torch.randperm(len(self.identities), generator=generator)[:count]]
        draw = self._one_each if each == 1 else partial(self._some_each, each=each)
        positions = {modality: draw(modality, chosen, generator) for modality in Modality}
        return chosen, positions

    def _some_each(
        self, modality: Modality, identities: Tensor, generator: torch.Generator, each: int
    ) -> Tensor:
        start, length, order = self._ranges[modality]
        picks = []
        for row in torch.searchsorted(self.identities, identities).tolist():
            shuffled = torch.randperm(int(length[row]), generator=generator)
            picks.append(order[start[row] + shuffled[torch.arange(each) % len(shuffled)]])
        return torch.cat(picks)

    def _one_each(self, modality: Modality, identities: Tensor, generator: torch.Generator) -> Tensor:
        start, length, order = self._ranges[modality]
        rows = torch.searchsorted(self.identities, identities)
        draws = torch.rand(len(rows), generator=generator, dtype=torch.float64)
        return order[start[rows] + (draws * length[rows]).long()]

    @cached_property
    def _ranges(self) -> dict[Modality, tuple[Tensor, Tensor, Tensor]]:
        ranges = {}
        for modality in Modality:
            labels = self[modality].labels.cpu()
            order = torch.argsort(labels, stable=True)
            start = torch.searchsorted(labels[order], self.identities)
            stop = torch.searchsorted(labels[order], self.identities, right=True)
            ranges[modality] = (start, stop - start, order)
        return ranges
