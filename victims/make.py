"""Builds a victim from its options, with weights sampled from a seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from vbench.core.errors import BadInput, VbenchError, unknown_name
from vbench.core.plugins import plugin_line
from vbench.victims.base import Victim, missing_options, option_names


def make_victim(victim_class: type[Victim], options: dict[str, Any]) -> Victim:
    """Call the constructor; raises BadInput for a missing option and for any error of the constructor."""
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


#: Used if no generator is given, so that an untrained victim is the same everywhere.
DEFAULT_SEED = 0

_MOST: ContextVar[int | None] = ContextVar("most", default=None)


@contextmanager
def at_most(numbers: int) -> Iterator[None]:
    """Inside the block, building a larger victim raises ValueError before it takes memory.

    For options that come from an untrusted file.
    """
    before = _MOST.set(numbers)
    try:
        yield
    finally:
        _MOST.reset(before)


def build_then_initialise(
    build: Callable[[], None], victim: nn.Module, generator: torch.Generator | None
) -> None:
    """Run ``build`` (which registers submodules on ``victim``) without weights, then sample them.

    Modules are built on the meta device, because their constructors would use the global generator. A module
    with its own parameters samples them in ``draw_weights(generator)``.
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


# On a CPU with AVX2 but without AVX-512, oneDNN computes the weight gradient of a 1x1 convolution with a
# stride and fewer than eight input channels, in channels-last layout, with a kernel that corrupts memory
# (seen with torch 2.11 and 2.14). Without a stride another kernel is used, and the stride of a 1x1
# convolution only selects pixels.
_FEWEST_CHANNELS = 8


class NarrowConv2d(nn.Conv2d):
    """A strided 1x1 convolution computed as one without a stride on every n-th pixel."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows, columns = (0, 0) if isinstance(self.padding, str) else self.padding
        down, right = self.stride
        padded = pad(input, (columns, columns, rows, rows))
        return conv2d(padded[:, :, ::down, ::right], weight, bias, groups=self.groups)


def is_narrow(layer: nn.Module) -> bool:
    """Whether a layer is a strided 1x1 convolution with fewer than eight input channels per group."""
    return (
        isinstance(layer, nn.Conv2d)
        and set(layer.kernel_size) == {1}
        and set(layer.stride) != {1}
        and layer.padding_mode == "zeros"
        and layer.in_channels // layer.groups < _FEWEST_CHANNELS
    )


def avoid_narrow_kernel(network: nn.Module) -> None:
    """Let every such layer of ``network`` compute without a stride; weights and names do not change.

    A subclass of :class:`torch.nn.Conv2d` with its own forward pass is not changed.
    """
    for layer in network.modules():
        if type(layer) is nn.Conv2d and is_narrow(layer):
            layer.__class__ = NarrowConv2d
