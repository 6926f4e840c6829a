"""Several attempts at an image, of which the one that its own objective likes best is kept."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vbench.attacks.steps import Objective
from vbench.threat import ThreatModel


def best_of(
    attempts: int, craft: Callable[[int], Tensor], objective: Objective, images: Tensor, threat: ThreatModel
) -> Tensor:
    """The best of ``craft(0)`` ... ``craft(attempts - 1)``, image by image; N x 3 x H x W, in budget.

    They are compared as the victim will see them, inside the budget and on the 8-bit grid, so that one more
    attempt never lowers the objective of what is shown. Equal values keep the earlier one. Costs a forward
    pass an attempt, and nothing when there is only one.
    """
    best = craft(0)
    if attempts == 1:
        return best
    value = _seen(objective, images, best, threat)
    for attempt in range(1, attempts):
        other = craft(attempt)
        found = _seen(objective, images, other, threat)
        better = found > value
        best = torch.where(better.view(-1, 1, 1, 1), other, best)
        value = torch.where(better, found, value)
    return best


def _seen(objective: Objective, images: Tensor, adversarial: Tensor, threat: ThreatModel) -> Tensor:
    with torch.no_grad():
        return objective(threat.enforce(images, adversarial))
