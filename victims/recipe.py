"""How a victim wants to be trained; the trainer reads this and knows no victim by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from torch import Tensor

from vbench.errors import BadInput


@dataclass(frozen=True)
class Recipe:
    """Training settings a victim declares.

    A batch holds ``identities`` x ``instances`` images of each modality; an epoch shows as many images as
    the larger modality has. ``learning_rate`` is the peak; parameters whose name does not start with one
    of ``head`` learn at ``trunk_rate`` times it. ``optimizer``: "sgd" (Nesterov) or "adamw".
    ``schedule``: "step" (linear warm-up by whole epochs, then a tenth at each of ``milestones``) or
    "cosine" (linear warm-up by step, then half a cosine to zero). ``padding`` in pixels; ``flip`` and
    ``erasing`` are probabilities, ``erasing_area`` bounds the erased share of an image. ``validation`` is
    the share of training identities that is left out of training and measured at the end.
    """

    epochs: int
    identities: int
    instances: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    schedule: str
    warmup_epochs: float
    milestones: tuple[int, ...] = ()
    momentum: float = 0.9
    head: tuple[str, ...] = ()
    trunk_rate: float = 1.0
    label_smoothing: float = 0.0
    flip: float = 0.5
    padding: int = 0
    erasing: float = 0.0
    erasing_area: tuple[float, float] = (0.02, 0.4)
    validation: float = 0.0

    def stretched(self, epochs: int) -> Recipe:
        """The same recipe over another number of epochs, warm-up and milestones in proportion."""
        if epochs < 1:
            raise BadInput(f"training needs at least 1 epoch, got {epochs}")
        factor = epochs / self.epochs
        return replace(
            self,
            epochs=epochs,
            warmup_epochs=self.warmup_epochs * factor,
            milestones=tuple(round(stone * factor) for stone in self.milestones),
        )


@runtime_checkable
class Trainable(Protocol):
    """What a victim offers to be trainable."""

    def recipe(self) -> Recipe:
        """Settings for this instance (they may depend on its width)."""
        ...

    def training_losses(
        self, visible: Tensor, infrared: Tensor, labels: Tensor, label_smoothing: float = 0.0
    ) -> dict[str, Tensor]:
        """Named scalar losses, to be summed, of a paired batch.

        ``visible`` and ``infrared`` are N x 3 x H x W in [0, 1]; row i of both shows identity ``labels[i]``.
        """
        ...
