"""The level "model": the attacker trains the victim itself, with modules, perturbation and L_total.

One reading of the published procedure: section 4.1 is the recipe of a re-identification model. It is a threat
model of its own, an insider or a poisoned supplier, and no text says that the authors did this.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vbench.attacks.training import ModalityView, TrainingView
from vbench.core.errors import BadInput
from vbench.core.processes import processes
from vbench.core.types import Modality
from vbench.victims.base import Edits, Victim, VictimOutput, accepts_generator, example_tensor
from vbench.victims.checkpoint import sha256_of
from vbench.victims.training.batches import augment

#: Epochs, and those after which the rate is a tenth: section 4.1, and the same scaled for thin victims.
FULL, THIN = (60, (20, 50)), (20, (7, 17))

#: Section 4.1: the probability of random erasing.
_ERASING = 0.5


@dataclass(frozen=True)
class AugmentedView(ModalityView):
    """Training images that are mirrored and erased at random whenever they are read."""

    generator: torch.Generator

    def batch(self, index: Tensor) -> Tensor:
        """Augmented images at ``index`` as float in [0, 1]."""
        images = self.images[index].permute(0, 2, 3, 1).cpu()
        return augment(images, self.generator, erasing=_ERASING).to(self.embeddings)


def augmented(train: TrainingView, generator: torch.Generator) -> TrainingView:
    """The view with augmented images, and true labels: the attacker trains the classifier itself."""
    views = {
        modality: AugmentedView(
            view.images, view.labels, view.embeddings, view.labels.to(view.embeddings.device), generator
        )
        for modality, view in train.views.items()
    }
    return TrainingView(views)


def schedule_of(victim: Victim) -> tuple[int, tuple[int, ...]]:
    """Epochs and milestones: section 4.1's, scaled for a victim with the options of its thin variant."""
    found = victim.describe()
    thin = {name: value for name, value in getattr(victim, "THIN", {}).items() if name != "input_size"}
    thin = {name: list(one) if isinstance(one, tuple) else one for name, one in thin.items()}
    same = all(found.get(name) == value for name, value in thin.items())
    return THIN if thin and same else FULL


def in_training(victim: Victim, scratch: bool, generator: torch.Generator) -> Victim:
    """A copy to be trained: with the victim's weights, or from ``scratch`` with random ones.

    What its class does not train, such as the shift of a BN neck, stays as it is.
    """
    if processes() > 1:
        raise BadInput("fsam_uap: level=model trains on one process; run it without torchrun")
    own = {"generator": generator} if scratch and accepts_generator(type(victim)) else {}
    try:
        trained = type(victim)(**victim.describe(), **own)
        if not scratch:
            trained.load_state_dict(victim.state_dict())
    except (TypeError, RuntimeError) as error:
        raise BadInput(f"{victim.name} cannot be built anew from its options: {error}") from error
    # Its passes are counted as the victim's.
    trained._forward_hooks = victim._forward_hooks
    like = example_tensor(victim)
    return trained.to(like.device, like.dtype).train()


@contextmanager
def own_random_state(generator: torch.Generator) -> Iterator[None]:
    """Let the victim's own randomness, such as dropout, follow ``generator``."""
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        yield


def moved(before: Victim, after: Victim) -> dict[str, Any]:
    """Hash of the tampered weights, and their distance from the untouched ones as a share of their length."""
    pairs = [
        (old.detach().double(), new.detach().double())
        for old, new in zip(before.parameters(), after.parameters(), strict=True)
    ]
    length = sum(old.square().sum().item() for old, _ in pairs) ** 0.5
    distance = sum((new - old).square().sum().item() for old, new in pairs) ** 0.5
    return {"sha256": sha256_of(after.state_dict()), "distance": distance / max(length, 1e-12)}


def with_weights(victim: Victim, weights: dict[str, Tensor], edits: dict[Modality, Edits]) -> Victim:
    """A copy of the victim with the attacker's weights, whose every pass goes through the modules."""
    tampered = deepcopy(victim)
    try:
        tampered.load_state_dict(weights)
    except RuntimeError as error:
        raise BadInput(f"the tampered weights do not fit {victim.name}") from error
    # Set on this instance, hiding the method of its class.
    tampered.forward = partial(_forward, tampered.forward, edits)  # type: ignore[method-assign]
    return tampered.eval()


def _forward(
    plain: Any,
    modules: dict[Modality, Edits],
    images: Tensor,
    modality: Modality,
    edits: Edits | None = None,
) -> VictimOutput:
    return plain(images, modality, {**modules[modality], **(edits or {})})
