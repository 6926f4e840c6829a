"""Identity classifiers of each modality that learn to agree with the other's running mean."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vbench.errors import BadInput
from vbench.victims.widen import widen


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
        """Set the running means to the classifiers as they are."""
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

        ``visible`` and ``infrared`` are N x D, row i of both showing ``labels[i]``. The disagreement is the
        Kullback-Leibler divergence from a modality's own prediction to the mean classifier of the other
        modality on the same features, averaged over all 2N images; gradients pass through the own
        prediction alone.
        """
        if visible.shape != infrared.shape or len(visible) != len(labels):
            raise BadInput("mutual learning: both modalities need one feature vector a label")
        own = widen(self.visible(visible)), widen(self.infrared(infrared))
        identity = sum(F.cross_entropy(one, labels, label_smoothing=label_smoothing) for one in own)
        with torch.no_grad():
            other = widen(self.infrared_mean(visible)), widen(self.visible_mean(infrared))
        mine, theirs = torch.cat(own).log_softmax(dim=1), torch.cat(other).log_softmax(dim=1)
        return identity, (mine.exp() * (mine - theirs)).sum(dim=1).mean()
