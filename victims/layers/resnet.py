"""Residual stages and non-local blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from vbench.core.errors import BadInput, unknown_name

#: Strides of layer1 ... layer4; the last is 1 (not ImageNet's 2) to keep a finer map for re-identification.
_STRIDES = (1, 2, 2, 1)

STAGES = ("layer1", "layer2", "layer3", "layer4")

#: Kinds of residual block; "basic" has no fourfold widening, the most expensive part of a thin trunk.
BLOCKS = {"bottleneck": Bottleneck, "basic": BasicBlock}


class Stem(nn.Module):
    """The layers before layer1: N x 3 x H x W to N x ``channels`` x H/4 x W/4.

    ``small`` is for images of 64x32: a 5x5 convolution at full resolution, then pooling, so H/2 x W/2.
    """

    def __init__(self, channels: int, small: bool = False) -> None:
        super().__init__()
        kernel, stride = (5, 1) if small else (7, 2)
        self.conv1 = nn.Conv2d(3, channels, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Apply convolution, normalisation, ReLU and pooling."""
        return self.pool(self.relu(self.bn1(self.conv1(images))))


class ResidualStages(nn.Module):
    """``layer1`` ... ``layer4`` of ResNet-50, with the last stride removed.

    ``width`` scales every channel count (1.0 is ResNet-50), ``blocks`` are the numbers of residual blocks per
    stage, ``block`` their kind, ``stages`` the number of stages. ``stems`` names the stems; they become
    attributes. ``channels`` maps "stem" and each stage to its output channels.
    """

    def __init__(
        self,
        width: float = 1.0,
        blocks: Sequence[int] = (3, 4, 6, 3),
        block: str = "bottleneck",
        stages: int = 4,
        stems: Sequence[str] = (),
        small_stem: bool = False,
    ) -> None:
        super().__init__()
        if block not in BLOCKS:
            raise unknown_name("residual block", block, BLOCKS)
        planes = [round(base * width) for base in (64, 128, 256, 512)]
        if len(blocks) != 4 or min(blocks) < 1:
            raise BadInput(f"blocks must be four positive numbers, one per stage, got {tuple(blocks)}")
        if planes[0] < 1:
            raise BadInput(f"width {width} leaves no channel; use at least {1 / 64}")
        self.channels = {"stem": planes[0]}
        for stem in stems:
            setattr(self, stem, Stem(planes[0], small_stem))
        incoming = planes[0]
        shapes = list(zip(STAGES, planes, blocks, _STRIDES, strict=True))
        for stage, out, count, stride in shapes[:stages]:
            setattr(self, stage, _make_stage(BLOCKS[block], incoming, out, count, stride))
            incoming = out * BLOCKS[block].expansion
            self.channels[stage] = incoming

    def stage(self, name: str, features: Tensor, after: Mapping[int, nn.Module] | None = None) -> Tensor:
        """Run one stage; ``after`` maps a block's index to a module applied to its output."""
        for index, block in enumerate(getattr(self, name)):
            features = block(features)
            if after and index in after:
                features = after[index](features)
        return features


def _make_stage(
    block: type[BasicBlock] | type[Bottleneck], incoming: int, planes: int, count: int, stride: int
) -> nn.Sequential:
    out = planes * block.expansion
    shortcut = None
    if stride != 1 or incoming != out:
        convolution = nn.Conv2d(incoming, out, kernel_size=1, stride=stride, bias=False)
        shortcut = nn.Sequential(convolution, nn.BatchNorm2d(out))
    first = block(incoming, planes, stride, shortcut)
    return nn.Sequential(first, *(block(out, planes) for _ in range(count - 1)))


class NonLocal(nn.Module):
    """``x + BN(W y)`` with ``y_i = 1/N sum_j theta(x_i) phi(x_j) g(x_j)`` over the N positions of a map.

    All projections are 1x1 convolutions to ``inner`` channels. The released AGW code uses one inner
    channel and divides by N where Wang et al. (CVPR 2018, equation 6 with the dot-product kernel) may use
    a softmax. Maps are N x ``channels`` x h x w and keep their shape.
    """

    def __init__(self, channels: int, inner: int = 1) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, inner, kernel_size=1)
        self.phi = nn.Conv2d(channels, inner, kernel_size=1)
        self.g = nn.Conv2d(channels, inner, kernel_size=1)
        self.project = nn.Conv2d(inner, channels, kernel_size=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Return the map with the non-local term added."""
        batch, _, height, width = features.shape
        theta = self.theta(features).flatten(2)
        phi = self.phi(features).flatten(2)
        g = self.g(features).flatten(2)
        # phi g^T first: it is inner x inner, where theta^T phi would be positions x positions.
        mixed = (phi @ g.transpose(1, 2)) / (height * width)
        y = (theta.transpose(1, 2) @ mixed).transpose(1, 2).reshape(batch, -1, height, width)
        return features + self.norm(self.project(y))
