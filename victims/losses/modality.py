"""Losses across modalities."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vbench.core.errors import BadInput
from vbench.victims.losses.triplet import euclidean, widen


def modality_enhancement(visible: Tensor, infrared: Tensor, labels: Tensor) -> Tensor:
    """Pull an image as close to its identity in the other modality as in its own; a scalar.

    ``visible`` and ``infrared`` are N x D, ``labels`` N for both. For each image the mean Euclidean distance
    to the images of its identity in the other modality, minus the mean distance to the others in its own, is
    squared; the loss is the mean over all 2N images. Raises BadInput if an identity has one image only.
    Source: Lu et al., AAAI 2023 (MSEL).
    """
    same = labels[:, None] == labels[None, :]
    counts = same.sum(dim=1)
    if (counts < 2).any():
        raise BadInput("modality enhancement: every identity of a batch needs two images of a modality")
    cross = euclidean(visible, infrared) * same
    seen = cross.sum(dim=1) / counts - (euclidean(visible, visible) * same).sum(dim=1) / (counts - 1)
    unseen = cross.sum(dim=0) / counts - (euclidean(infrared, infrared) * same).sum(dim=1) / (counts - 1)
    return (seen.square().mean() + unseen.square().mean()) / 2


_WIDTH = 256

_SEED = 0

_EPSILON = 1e-5


class DistributionConsistency(nn.Module):
    """Mean Euclidean distance of paired middle-modality vectors after a projection; a scalar.

    ``visible`` and ``infrared`` are N x ``dim`` each; row i of both has the same identity. They are
    normalised to unit length, projected together (``dim`` to 256, batch normalisation, ReLU, 256 to 256,
    batch normalisation, both over this batch) and normalised again. Source: Zhang et al., ACM MM 2021.

    The authors' optimiser does not train the projection and their files do not contain it: it is random and
    fixed. Here it comes from a fixed seed and is not in the state dict.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first: Tensor
        self.second: Tensor
        self.shift: Tensor
        generator = torch.Generator().manual_seed(_SEED)
        for name, fan_in, shape in (
            ("first", dim, (_WIDTH, dim)),
            ("second", _WIDTH, (_WIDTH, _WIDTH)),
            ("shift", _WIDTH, (_WIDTH,)),
        ):
            bound = 1 / math.sqrt(fan_in)
            # On the CPU even if the victim around it is built on the meta device.
            sampled = torch.empty(shape, device="cpu").uniform_(-bound, bound, generator=generator)
            self.register_buffer(name, sampled, persistent=False)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Compare the pairs; differentiable in both arguments."""
        both = F.normalize(widen(torch.cat((visible, infrared))))
        hidden = F.relu(_standardise(F.linear(both, self.first)))
        projected = F.normalize(widen(_standardise(F.linear(hidden, self.second, self.shift))))
        one, other = projected.chunk(2)
        return torch.linalg.vector_norm(one - other, dim=1).mean()


def _standardise(vectors: Tensor) -> Tensor:
    return F.batch_norm(widen(vectors), None, None, training=True, eps=_EPSILON)


class MutualClassifiers(nn.Module):
    """A classifier for each modality and its running mean over training steps; logits are N x ``classes``.

    The means get no gradient: :meth:`follow` moves them. Source: Wu et al., CVPR 2021 (mutual mean learning).
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.visible, self.infrared, self.visible_mean, self.infrared_mean = (
            nn.Linear(dim, classes, bias=False) for _ in range(4)
        )
        for mean in (self.visible_mean, self.infrared_mean):
            mean.weight.requires_grad_(False)

    @torch.no_grad()
    def restart(self) -> None:
        """Set the running means to the current classifiers."""
        self.follow(1.0)

    @torch.no_grad()
    def follow(self, rate: float) -> None:
        """Move the running means ``rate`` (0 to 1) of the way to the classifiers."""
        self.visible_mean.weight.lerp_(self.visible.weight, rate)
        self.infrared_mean.weight.lerp_(self.infrared.weight, rate)

    def losses(
        self, visible: Tensor, infrared: Tensor, labels: Tensor, label_smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy of both classifiers, and disagreement with the other modality's mean; two scalars.

        ``visible`` and ``infrared`` are N x D; row i of both has identity ``labels[i]``. The disagreement is
        the Kullback-Leibler divergence from a modality's own prediction to the mean classifier of the other
        modality on the same features, averaged over all 2N images; gradients pass only through the modality's
        own prediction.
        """
        if visible.shape != infrared.shape or len(visible) != len(labels):
            raise BadInput("mutual learning: both modalities need one feature vector a label")
        own = widen(self.visible(visible)), widen(self.infrared(infrared))
        first, second = (F.cross_entropy(one, labels, label_smoothing=label_smoothing) for one in own)
        with torch.no_grad():
            other = widen(self.infrared_mean(visible)), widen(self.visible_mean(infrared))
        mine, theirs = torch.cat(own).log_softmax(dim=1), torch.cat(other).log_softmax(dim=1)
        return first + second, (mine.exp() * (mine - theirs)).sum(dim=1).mean()
