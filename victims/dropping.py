"""Dropout and stochastic depth whose masks come from an explicit generator."""

from __future__ import annotations

import torch
from torch import Tensor


def drop_elements(values: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Set a share ``rate`` of the elements to zero and scale the others up, so that the mean stays.

    ``generator`` is on the device of ``values``; without one, or at rate 0, ``values`` come back as they are.
    Source: Srivastava et al., JMLR 2014.
    """
    if generator is None or rate == 0:
        return values
    kept = torch.empty_like(values).bernoulli_(1 - rate, generator=generator)
    return values * kept.div_(1 - rate)


def drop_branches(values: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """The same for whole rows of an N x ... tensor. Source: Huang et al., ECCV 2016 (stochastic depth)."""
    if generator is None or rate == 0:
        return values
    row = values.new_empty((len(values),) + (1,) * (values.ndim - 1))
    return values * row.bernoulli_(1 - rate, generator=generator).div_(1 - rate)


def generator_on(device: torch.device, source: torch.Generator) -> torch.Generator:
    """A generator on ``device`` seeded from ``source``, which advances by one draw.

    Masks as large as all activations would take longer to draw on the CPU than a GPU needs for the step.
    """
    seed = int(torch.randint(2**62, (), generator=source))
    return torch.Generator(device).manual_seed(seed)
