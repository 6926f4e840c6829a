"""Training settings of a victim; common recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from vbench.core.errors import BadInput


def check_share(share: float) -> None:
    """Raise :class:`BadInput` for a validation share that is not in [0, 1)."""
    if not 0 <= share < 1:
        raise BadInput(f"the validation share must be in [0, 1), got {share}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Training settings a victim declares.

    A batch holds ``identities`` x ``instances`` images of each modality; an epoch has as many images as the
    larger modality. ``learning_rate`` is the peak; parameters whose name does not start with one of ``head``
    learn at ``trunk_rate`` times it. ``optimizer``: "sgd" (Nesterov), "adam" or "adamw".
    ``schedule``: "step" (linear warm-up by whole epochs, then a tenth at each of ``milestones``) or "cosine"
    (linear warm-up by step, then half a cosine to zero). ``padding`` in pixels; ``flip`` and ``erasing`` are
    probabilities, ``erasing_area`` bounds the erased share of an image. Each visible image comes in
    ``visible_views`` versions, augmented independently. A model does any other augmentation itself, in its
    losses. ``validation`` is the share of training identities that is left out of training and evaluated at
    the end.
    """

    epochs: int
    identities: int
    instances: int
    optimizer: str = "adamw"
    learning_rate: float
    weight_decay: float = 5e-4
    schedule: str = "cosine"
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
        """The same recipe for another number of epochs, warm-up and milestones in proportion."""
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

    ``infrared``: N x 3 x H x W in [0, 1]; ``labels``: N, the identity of row i, with K = ``instances``
    consecutive rows per identity. ``visible``: ``visible_views`` blocks of N images; row i of every block has
    identity ``labels[i]``. ``generator`` (CPU) is for the victim's own augmentation. ``epoch`` counts from 0
    to ``epochs`` - 1; ``previous`` are the mean losses of the previous epoch, {} in the first.
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
    """Methods that make a victim trainable."""

    def recipe(self) -> Recipe:
        """Settings for this instance (they may depend on its width)."""
        ...

    def training_losses(self, batch: TrainBatch) -> dict[str, Tensor]:
        """Named scalar losses, already weighted, to be summed."""
        ...


#: The published schedule of AGW, also used by most later two-stream models.
PUBLISHED_TWO_STREAM = Recipe(
    epochs=81,
    identities=8,
    instances=4,
    optimizer="sgd",
    learning_rate=0.1,
    schedule="step",
    warmup_epochs=10,
    milestones=(20, 50),
    head=("neck", "classifier"),
    trunk_rate=0.1,
    padding=10,
)

#: Settings chosen for a thin residual network on two CPU cores.
THIN_RESIDUAL = Recipe(
    epochs=20,
    identities=16,
    instances=2,
    learning_rate=1e-2,
    warmup_epochs=4,
    label_smoothing=0.1,
    padding=2,
    erasing=0.3,
    erasing_area=(0.02, 0.1),
    validation=0.05,
)

#: Constructor options of that network: every part of the full one, one block per stage.
THIN_RESIDUAL_OPTIONS = {
    "width": 0.25,
    "blocks": (1, 1, 1, 1),
    "block": "basic",
    "small_stem": True,
    "input_size": (64, 32),
}
