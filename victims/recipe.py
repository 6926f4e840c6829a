"""How a victim wants to be trained; the trainer reads this and knows no victim by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from vbench.errors import BadInput


def check_share(share: float) -> None:
    """Raise :class:`BadInput` for a share of training identities to leave out that is not in [0, 1)."""
    if not 0 <= share < 1:
        raise BadInput(f"the validation share must be in [0, 1), got {share}")


@dataclass(frozen=True)
class Recipe:
    """Training settings a victim declares.

    A batch holds ``identities`` x ``instances`` images of each modality; an epoch shows as many images as
    the larger modality has. ``learning_rate`` is the peak; parameters whose name does not start with one
    of ``head`` learn at ``trunk_rate`` times it. ``optimizer``: "sgd" (Nesterov), "adam" or "adamw".
    ``schedule``: "step" (linear warm-up by whole epochs, then a tenth at each of ``milestones``) or
    "cosine" (linear warm-up by step, then half a cosine to zero). ``padding`` in pixels; ``flip`` and
    ``erasing`` are probabilities, ``erasing_area`` bounds the erased share of an image. Each visible image
    comes in ``visible_views`` versions, augmented independently. What else a model does to its training
    images it does itself, in its losses. ``validation`` is the share of training identities that is left
    out of training and measured at the end.
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
    visible_views: int = 1
    validation: float = 0.0

    def __post_init__(self) -> None:
        check_share(self.validation)

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


@dataclass(frozen=True)
class TrainBatch:
    """One P x K batch of both modalities, on the victim's device.

    ``infrared``: N x 3 x H x W in [0, 1]; ``labels``: N, the identity of row i, K = ``instances`` rows of an
    identity in sequence. ``visible``: ``visible_views`` blocks of N images, row i of every block showing
    ``labels[i]``. ``generator`` (CPU) is for augmentation of the victim's own. ``epoch`` counts from 0 to
    ``epochs`` - 1; ``previous`` are the mean losses of the epoch before, {} in the first.
    """

    visible: Tensor
    infrared: Tensor
    labels: Tensor
    generator: torch.Generator
    instances: int
    epoch: int = 0
    epochs: int = 1
    previous: Mapping[str, float] = field(default_factory=dict)
    label_smoothing: float = 0.0


@runtime_checkable
class Trainable(Protocol):
    """What a victim offers to be trainable."""

    def recipe(self) -> Recipe:
        """Settings for this instance (they may depend on its width)."""
        ...

    def training_losses(self, batch: TrainBatch) -> dict[str, Tensor]:
        """Named scalar losses, already weighted, to be summed."""
        ...
