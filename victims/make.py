"""."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn

from vbench.core.errors import BadInput, VbenchError, unknown_name
from vbench.core.plugins import plugin_line
from vbench.victims.base import Victim, missing_options, option_names
from vbench.victims.layers.narrow import avoid_narrow_kernel


def make_victim(victim_class: type[Victim], options: dict[str, Any]) -> Victim:
    """Call the constructor; BadInput for a missing option, and for whatever the constructor raises."""
    name = getattr(victim_class, "name", victim_class.__name__)
    lacking = missing_options(victim_class, options)
    if lacking:
        raise BadInput(f"victim '{name}' needs {', '.join(lacking)}, as in {name}[{lacking[0]}=...]")
    try:
        return victim_class(**options)
    except VbenchError:
        raise
    except (Exception, SystemExit) as error:  # options of the wrong kind make it fail in any way
        raise BadInput(f"victim '{name}' cannot be built: {plugin_line(error, victim_class)}") from error


def check_options(victim_class: type[Victim], options: dict[str, Any]) -> None:
    """Raise BadInput, with the nearest name, for an option that the class does not have."""
    known = [name for name in option_names(victim_class) if name != "num_classes"]
    for name in options:
        if name not in known:
            raise unknown_name(f"option of victim {victim_class.name}", name, known)


#: Used where no generator is given, so that an untrained victim is the same everywhere.
DEFAULT_SEED = 0

_MOST: ContextVar[int | None] = ContextVar("most", default=None)


@contextmanager
def at_most(numbers: int) -> Iterator[None]:
    """Inside the block a victim of more numbers than this is refused with ValueError before it takes memory.

    For options that came with a file, which may say anything.
    """
    before = _MOST.set(numbers)
    try:
        yield
    finally:
        _MOST.reset(before)


def build_then_initialise(
    build: Callable[[], None], victim: nn.Module, generator: torch.Generator | None
) -> None:
    """Run ``build`` (which registers submodules on ``victim``) without drawing weights, then draw them.

    Modules are made on the meta device, because their constructors would draw from the global generator.
    A module with parameters of its own draws them in ``draw_weights(generator)``.
    """
    with torch.device("meta"):
        build()
    avoid_narrow_kernel(victim)
    most, wanted = _MOST.get(), sum(tensor.numel() for tensor in victim.parameters())
    if most is not None and wanted > most:
        raise ValueError(f"a network of {wanted:,} numbers")
    victim._apply(lambda tensor: torch.empty_like(tensor, device="cpu") if tensor.is_meta else tensor)
    generator = generator or torch.Generator().manual_seed(DEFAULT_SEED)
    for module in victim.modules():
        _initialise(module, generator)


@torch.no_grad()
def _initialise(module: nn.Module, generator: torch.Generator) -> None:
    draw_weights = getattr(module, "draw_weights", None)
    if draw_weights is not None:
        draw_weights(generator)
    elif isinstance(module, nn.Conv2d):
        _initialise_convolution(module, generator)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.001, generator=generator)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm1d):
        module.reset_running_stats()
        nn.init.normal_(module.weight, mean=1.0, std=0.01, generator=generator)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        module.reset_running_stats()
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def _initialise_convolution(convolution: nn.Conv2d, generator: torch.Generator) -> None:
    if convolution.bias is None:
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        return
    nn.init.kaiming_uniform_(convolution.weight, a=math.sqrt(5), generator=generator)
    fan_in = convolution.weight[0].numel()
    bound = 1 / math.sqrt(fan_in)
    nn.init.uniform_(convolution.bias, -bound, bound, generator=generator)
