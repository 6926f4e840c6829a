"""Training of the feature modules, and of the perturbation with them by section 4.1 of the paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from vbench.attacks.fsam_uap.modules import FeatureModules, MaskStatistics
from vbench.attacks.steps import all_finite
from vbench.attacks.training import TrainingView
from vbench.core.errors import VbenchError
from vbench.core.processes import all_reduce, broadcast
from vbench.core.progress import track
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.victims.base import Edits, Victim

#: Section 4.1: momentum and weight decay of SGD, and the shares of the training after which the rate is a
#: tenth.
_MOMENTUM, _DECAY, MILESTONES = 0.9, 5e-4, (20 / 60, 50 / 60)


class ModuleTrainer:
    """Adam on the modules' parameters; the victim stays frozen."""

    def __init__(
        self,
        victim: Victim,
        train: TrainingView,
        modules: FeatureModules,
        rate: float,
        keep_weight: float,
        each: int = 1,
    ) -> None:
        self._victim = victim
        self._train = train
        self._modules = modules
        self._keep_weight = keep_weight
        self._each = each
        self.parameters = list(modules.parameters())
        self._optimizer = torch.optim.Adam(self.parameters, lr=rate) if self.parameters else None

    def price(self, steps: int, count: int) -> int:
        """Gradient evaluations that :meth:`learn_to_keep` takes."""
        return 2 * count * self._each * steps if self._optimizer else 0

    def learn_to_keep(self, steps: int, count: int, generator: torch.Generator) -> None:
        """Descend the identity loss on clean images for ``steps`` batches of ``count`` identities."""
        for _ in range(steps if self._optimizer else 0):
            _, positions = self._train.pairs(count, generator, self._each)
            self._step(partial(self.keep, positions))

    def help_attack(self, positions: Mapping[Modality, Tensor], attack: Callable[[], Tensor]) -> None:
        """One step up the attack's objective minus ``keep_weight`` times the loss on clean images."""
        self._step(lambda: self._keep_weight * self.keep(positions) - attack())

    @torch.no_grad()
    def mask_statistics(self, count: int, generator: torch.Generator) -> dict[str, MaskStatistics]:
        """Mask statistics on one clean batch."""
        _, positions = self._train.pairs(count, generator)

        def run(modality: Modality, edits: Edits) -> None:
            self._victim(self._train[modality].batch(positions[modality]), modality, edits)

        return self._modules.mask_statistics(run)

    def _step(self, loss: Callable[[], Tensor]) -> None:
        if self._optimizer is None:
            return
        with torch.enable_grad():
            gradients = torch.autograd.grad(loss(), self.parameters, allow_unused=True)
        for parameter, gradient in zip(self.parameters, all_reduce(gradients), strict=True):
            parameter.grad = gradient
        self._optimizer.step()

    def keep(self, positions: Mapping[Modality, Tensor]) -> Tensor:
        """Identity loss, and distance from the clean embeddings, of clean images that pass the modules."""
        terms = []
        for modality in Modality:
            view, index = self._train[modality], positions[modality]
            output = self._victim(view.batch(index), modality, self._modules.edits(modality))
            terms.append(view.identity_loss(output, index))
            terms.append(1 - cosine_similarity(output.embedding, view.embeddings[index]).mean())
        return torch.stack(terms).sum()


def with_true_labels(train: TrainingView) -> tuple[TrainingView, float]:
    """A view whose identity loss takes the true labels, and the share that the classifier predicts right.

    Where that share is below a half in a modality, its classes are not the training identities (it was
    trained on others), and the view is returned unchanged.
    """
    shares, views = [], {}
    for modality in Modality:
        view = train[modality]
        if view.predictions is None:
            return train, 0.0
        labels = view.labels.to(view.predictions)
        shares.append((view.predictions == labels).double().mean().item())
        views[modality] = replace(view, predictions=labels)
    return (TrainingView(views) if min(shares) >= 0.5 else train), min(shares)


def rates(updates: int, peak: float, warmup: float, milestones: Sequence[float] = MILESTONES) -> list[float]:
    """The rate of each update: a linear warm-up over a share of them, a tenth after each milestone."""
    warm = max(warmup * updates, 1.0)
    return [
        peak * min(1.0, (step + 1) / warm) * 0.1 ** sum(step >= share * updates for share in milestones)
        for step in range(updates)
    ]


#: Perturbation (1 x C x H x W) -> what it descends and what the modules descend; None for what is not
#: trained.
Losses = Callable[[Tensor], tuple[Tensor | None, Tensor | None]]


def learn_by_sgd(
    delta: Tensor,
    parameters: Sequence[Tensor],
    losses: Losses,
    threat: ThreatModel,
    schedule: Sequence[float],
    label: str,
    quiet: bool,
) -> Tensor:
    """Train a perturbation and the modules' parameters by SGD: one step for each rate of ``schedule``.

    The perturbation is clipped to the budget after every step; C x H x W. Raises :class:`VbenchError` when a
    loss or gradient is not finite.
    """
    delta = delta.clone().requires_grad_(True)
    optimizer = torch.optim.SGD([delta, *parameters], lr=schedule[0], momentum=_MOMENTUM, weight_decay=_DECAY)
    for rate in track(schedule, label, quiet=quiet):
        optimizer.zero_grad(set_to_none=True)
        optimizer.param_groups[0]["lr"] = rate
        with torch.enable_grad():
            own, of_modules = losses(delta)
            if own is not None:
                graph = of_modules is not None
                (delta.grad,) = broadcast(torch.autograd.grad(own, delta, retain_graph=graph))
            if of_modules is not None and parameters:
                found = all_reduce(torch.autograd.grad(of_modules, parameters, allow_unused=True))
                for parameter, gradient in zip(parameters, found, strict=True):
                    parameter.grad = gradient
        moved = [one.grad for one in (delta, *parameters) if one.grad is not None]
        if moved and not all_finite(*moved, *(one for one in (own, of_modules) if one is not None)):
            raise VbenchError(f"{label}: the objective or its gradient is not finite")
        optimizer.step()
        with torch.no_grad():
            delta.clamp_(-threat.epsilon, threat.epsilon)
    return delta.detach()[0]
