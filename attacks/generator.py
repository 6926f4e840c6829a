"""A small image-to-perturbation network, and its weights as plain tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vbench.errors import BadInput


class Generator(nn.Module):
    """Residual encoder-decoder: N x 3 x H x W images in [0, 1] to changes like them in [-bound, bound].

    Two stride-2 convolutions, ``blocks`` residual blocks at a quarter of the size, two transposed
    convolutions, tanh. Instance normalisation, so that an image's change never depends on its batch; H and
    W must be at least 8.
    """

    bound: Tensor

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.start = nn.Sequential(nn.ReflectionPad2d(3), *_normed(nn.Conv2d(3, width, 7, bias=False), width))
        self.down = nn.Sequential(
            *_normed(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False), 2 * width),
            *_normed(nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1, bias=False), 4 * width),
        )
        self.residual = nn.ModuleList(_residual(4 * width) for _ in range(blocks))
        self.up = nn.Sequential(
            *_normed(_double(4 * width, 2 * width), 2 * width), *_normed(_double(2 * width, width), width)
        )
        self.end = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())
        self.register_buffer("bound", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        """Changes for N images."""
        height, width = images.shape[2:]
        current = self.down(self.start(2 * images - 1))
        for block in self.residual:
            current = current + block(current)
        return self.bound * self.end(self.up(current)[:, :, :height, :width])


def new_generator(width: int, blocks: int, bound: float, generator: torch.Generator) -> Generator:
    """A generator with random weights from ``generator`` alone."""
    # Built without values: the library's own initialisation would draw from global random state.
    with torch.device("meta"):
        network = Generator(width, blocks)
    network = network.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in network.parameters():
            draw = torch.randn(parameter.shape, generator=generator)
            fan_in = parameter[0].numel()
            parameter.copy_(draw / fan_in**0.5 if parameter.ndim > 1 else torch.zeros_like(draw))
        network.bound.fill_(bound)
    return network


def generator_from(weights: Mapping[str, Tensor]) -> Generator:
    """The frozen generator whose state dict is ``weights``; raises :class:`BadInput` when they fit none."""
    first = weights.get("start.1.weight")
    blocks = {name.split(".")[1] for name in weights if name.startswith("residual.")}
    if first is None or first.ndim != 4:
        raise BadInput("the perturbation's generator has no first layer")
    with torch.device("meta"):
        network = Generator(first.shape[0], len(blocks))
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    if expected != {name: tuple(value.shape) for name, value in weights.items()}:
        raise BadInput("the perturbation's generator has tensors of other names or shapes than expected")
    network.load_state_dict(dict(weights), assign=True)
    return network.requires_grad_(False).eval()


def _normed(layer: nn.Module, channels: int) -> tuple[nn.Module, ...]:
    return layer, nn.InstanceNorm2d(channels), nn.ReLU()


def _double(channels: int, out: int) -> nn.Module:
    return nn.ConvTranspose2d(channels, out, 3, stride=2, padding=1, output_padding=1, bias=False)


def _residual(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ReflectionPad2d(1),
        *_normed(nn.Conv2d(channels, channels, 3, bias=False), channels),
        nn.ReflectionPad2d(1),
        nn.Conv2d(channels, channels, 3, bias=False),
        nn.InstanceNorm2d(channels),
    )
