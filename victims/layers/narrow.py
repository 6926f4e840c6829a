"""Strided 1x1 convolutions of very few channels, kept clear of a kernel that writes outside its memory.

On a processor with AVX2 and without AVX-512, oneDNN computes the weights' gradient of a 1x1 convolution
with a stride and fewer than eight input channels, in channels-last layout, with a kernel that corrupts
memory (seen with torch 2.11 and 2.14). Without a stride another kernel is taken, and a stride of a 1x1
convolution is nothing but a choice of pixels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

_FEWEST_CHANNELS = 8


class NarrowConv2d(nn.Conv2d):
    """A strided 1x1 convolution computed as one without a stride on every n-th pixel."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows, columns = (0, 0) if isinstance(self.padding, str) else self.padding
        down, right = self.stride
        padded = pad(input, (columns, columns, rows, rows))
        return conv2d(padded[:, :, ::down, ::right], weight, bias, groups=self.groups)


def is_narrow(layer: nn.Module) -> bool:
    """Whether a layer is a strided 1x1 convolution with fewer than eight input channels a group."""
    return (
        isinstance(layer, nn.Conv2d)
        and set(layer.kernel_size) == {1}
        and set(layer.stride) != {1}
        and layer.padding_mode == "zeros"
        and layer.in_channels // layer.groups < _FEWEST_CHANNELS
    )


def avoid_narrow_kernel(network: nn.Module) -> None:
    """Let every such layer of ``network`` compute without a stride; weights and names stay as they are.

    A subclass of :class:`torch.nn.Conv2d` with a forward pass of its own is left alone.
    """
    for layer in network.modules():
        if type(layer) is nn.Conv2d and is_narrow(layer):
            layer.__class__ = NarrowConv2d
