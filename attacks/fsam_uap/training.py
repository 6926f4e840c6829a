"""Training of the feature modules: keep identities on clean images, and optionally help the attack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from vbench.attacks.fsam_uap.modules import FeatureModules, MaskStatistics
from vbench.attacks.training import TrainingView
from vbench.core.processes import all_reduce
from vbench.core.types import Modality
from vbench.victims.base import Victim


class ModuleTrainer:
    """Adam on the modules' parameters; the victim stays frozen."""

    def __init__(
        self,
        victim: Victim,
        train: TrainingView,
        modules: FeatureModules,
        rate: float,
        keep_weight: float,
    ) -> None:
        self._victim = victim
        self._train = train
        self._modules = modules
        self._keep_weight = keep_weight
        self._parameters = list(modules.parameters())
        self._optimizer = torch.optim.Adam(self._parameters, lr=rate) if self._parameters else None

    def price(self, steps: int, count: int) -> int:
        """Gradient evaluations that :meth:`learn_to_keep` takes."""
        return 2 * count * steps if self._optimizer else 0

    def learn_to_keep(self, steps: int, count: int, generator: torch.Generator) -> None:
        """Descend the identity loss on clean images for ``steps`` batches of ``count`` pairs."""
        for _ in range(steps if self._optimizer else 0):
            _, positions = self._train.pairs(count, generator)
            self._step(partial(self._keep, positions))

    def help_attack(self, positions: Mapping[Modality, Tensor], attack: Callable[[], Tensor]) -> None:
        """One step up the attack's objective minus ``keep_weight`` times the loss on clean images."""
        self._step(lambda: self._keep_weight * self._keep(positions) - attack())

    @torch.no_grad()
    def mask_statistics(self, count: int, generator: torch.Generator) -> dict[str, MaskStatistics]:
        """Mask statistics on one clean visible batch."""
        _, positions = self._train.pairs(count, generator)
        images = self._train[Modality.VISIBLE].batch(positions[Modality.VISIBLE])
        return self._modules.mask_statistics(lambda edits: self._victim(images, Modality.VISIBLE, edits))

    def _step(self, loss: Callable[[], Tensor]) -> None:
        if self._optimizer is None:
            return
        with torch.enable_grad():
            gradients = torch.autograd.grad(loss(), self._parameters, allow_unused=True)
        for parameter, gradient in zip(self._parameters, all_reduce(gradients), strict=True):
            parameter.grad = gradient
        self._optimizer.step()

    def _keep(self, positions: Mapping[Modality, Tensor]) -> Tensor:
        terms = []
        for modality in Modality:
            view, index = self._train[modality], positions[modality]
            output = self._victim(view.batch(index), modality, self._modules.edits())
            terms.append(view.identity_loss(output.logits, index))
            terms.append(1 - cosine_similarity(output.embedding, view.embeddings[index]).mean())
        return torch.stack(terms).sum()
