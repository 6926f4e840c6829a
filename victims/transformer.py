"""A vision transformer with overlapping patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vbench.core.errors import BadInput
from vbench.victims.layers import Stem
from vbench.victims.training.batches import drop_branches, drop_elements

#: Initial standard deviation of the class token, and of the positions around their sinusoidal values.
_TABLE_DEVIATION = 0.02
#: Blocks are counted in quarters, so that a transformer has as many stages as a ResNet.
QUARTERS = 4
#: Blocks after the last quarter. After the last block only the class token is used, and the last block uses
#: patch tokens only as a normalised set, where scaling by an edit would have no effect.
_LAST_BLOCKS = 2
_LEAST_DEPTH = QUARTERS + _LAST_BLOCKS
#: Ratio of the longest to the shortest wavelength of the initial positions, for grids of about ten patches.
_LONGEST_WAVE = 100.0


class Attention(nn.Module):
    """Multi-head self-attention over N x L x ``width`` tokens. Source: Vaswani et al., NeurIPS 2017."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return mixed tokens of the same shape."""
        query, key, value = self._split(self.qkv(tokens))
        return self._mix(query, key, value)

    def first(self, tokens: Tensor) -> Tensor:
        """Only the first of the mixed tokens, N x 1 x width, without computing the others."""
        width = tokens.shape[2]
        weights, shifts = self.qkv.weight.split((width, 2 * width)), self.qkv.bias.split((width, 2 * width))
        (query,) = self._split(F.linear(tokens[:, :1], weights[0], shifts[0]))
        key, value = self._split(F.linear(tokens, weights[1], shifts[1]))
        return self._mix(query, key, value)

    def _split(self, packed: Tensor) -> tuple[Tensor, ...]:
        size = self.project.in_features // self.heads
        return packed.unflatten(2, (-1, self.heads, size)).permute(2, 0, 3, 1, 4).unbind(0)

    def _mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.project(mixed.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Attention, then two linear layers with GELU, each on normalised tokens and added to them.

    While training, ``dropout`` is the share of elements set to zero after every linear layer but the first
    of attention, ``drop_path`` the share of images for which a branch is left out. Source: Dosovitskiy et
    al., ICLR 2021, equations 2-3.
    """

    def __init__(
        self, width: int, heads: int, mlp_ratio: float, dropout: float = 0.0, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.dropout, self.drop_path = dropout, drop_path
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, int(width * mlp_ratio))
        self.contract = nn.Linear(int(width * mlp_ratio), width)

    def forward(self, tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return N x L x width tokens; without a ``generator`` (on the tokens' device) nothing is dropped."""
        return self._add(tokens, self.attention(self.norm1(tokens)), generator)

    def first(self, tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The first token that :meth:`forward` returns, N x 1 x width, without computing the others."""
        return self._add(tokens[:, :1], self.attention.first(self.norm1(tokens)), generator)

    def _add(self, tokens: Tensor, attended: Tensor, generator: torch.Generator | None) -> Tensor:
        attended = drop_elements(attended, self.dropout, generator)
        tokens = tokens + drop_branches(attended, self.drop_path, generator)
        hidden = drop_elements(F.gelu(self.expand(self.norm2(tokens))), self.dropout, generator)
        added = drop_elements(self.contract(hidden), self.dropout, generator)
        return tokens + drop_branches(added, self.drop_path, generator)


class VisionTransformer(nn.Module):
    """From N x 3 x H x W normalised images to N x (1 + h w) x ``width`` tokens, the class token first.

    ``patch`` and ``stride`` in pixels: patches overlap where the stride is smaller. ``grid`` is (h, w), the
    number of patches along each side. ``drop_path`` is the rate of the last block; it grows linearly from 0.
    Layer normalisation has torch's epsilon 1e-5. With ``stem_channels`` patches are cut from the map of a
    convolutional stem, half the size of the image, and are counted in its pixels. Raises BadInput for sizes
    that do not fit together.
    """

    def __init__(
        self,
        input_size: Sequence[int],
        patch: int = 16,
        stride: int = 12,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        stem_channels: int = 0,
    ) -> None:
        super().__init__()
        sizes = tuple(size // 2 if stem_channels else size for size in input_size)
        _check_sizes(sizes, patch, stride, width, depth, heads, mlp_ratio)
        self.dropout = dropout
        height, wide = ((size - patch) // stride + 1 for size in sizes)
        self.grid = (height, wide)
        if stem_channels:
            self.stem = Stem(stem_channels, small=True)
        self.project = nn.Conv2d(stem_channels or 3, width, patch, stride=stride)
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, 1 + height * wide, width))
        rates = [drop_path * index / max(depth - 1, 1) for index in range(depth)]
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, mlp_ratio, dropout, rate) for rate in rates
        )
        self.norm = nn.LayerNorm(width)

    def embed(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The class token and the tokens of the patches, with positions added."""
        images = self.stem(images) if hasattr(self, "stem") else images
        patches = self.project(images).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.class_token.expand(len(images), -1, -1), patches), dim=1)
        return drop_elements(tokens + self.positions, self.dropout, generator)

    def quarter(self, number: int, tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Run quarter ``number`` (0 to 3) of the blocks before the last two."""
        count = len(self.blocks) - _LAST_BLOCKS
        for index in range(number * count // QUARTERS, (number + 1) * count // QUARTERS):
            tokens = self.blocks[index](tokens, generator)
        return tokens

    def class_vector(self, tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The class token after the last two blocks, normalised, N x width."""
        for block in self.blocks[-_LAST_BLOCKS:-1]:
            tokens = block(tokens, generator)
        # A type checker does not know the types in a ModuleList.
        last = cast(TransformerBlock, self.blocks[-1])
        return self.norm(last.first(tokens, generator)[:, 0])

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The normalised class token of each image after all blocks, N x width."""
        tokens = self.embed(images, generator)
        for number in range(QUARTERS):
            tokens = self.quarter(number, tokens, generator)
        return self.class_vector(tokens, generator)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Sample all weights for training from scratch.

        Linear layers keep the variance of their input (LeCun); the last one of each branch divides it by the
        number of branches, so that the sum of all branches is no larger than the tokens.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                _draw(module, 1.0, generator)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
        share = (2 * len(self.blocks)) ** -0.5
        for block in self.modules():
            if isinstance(block, TransformerBlock):
                _draw(block.attention.project, share, generator)
                _draw(block.contract, share, generator)
        nn.init.kaiming_normal_(self.project.weight, nonlinearity="linear", generator=generator)
        nn.init.zeros_(self.project.get_parameter("bias"))
        nn.init.trunc_normal_(self.class_token, std=_TABLE_DEVIATION, generator=generator)
        nn.init.trunc_normal_(self.positions, std=_TABLE_DEVIATION, generator=generator)
        self.positions[0, 1:] += _waves(self.grid, self.positions.shape[2])


def _draw(linear: nn.Linear, scale: float, generator: torch.Generator) -> None:
    nn.init.trunc_normal_(linear.weight, std=scale / linear.in_features**0.5, generator=generator)
    nn.init.zeros_(linear.bias)


def _waves(grid: tuple[int, int], width: int) -> Tensor:
    """Sines and cosines of both coordinates, (h w) x ``width``: similar for nearby patches.

    Source: Vaswani et al., NeurIPS 2017, section 3.5, half of the channels for each coordinate, with half
    their amplitude.
    """
    count = -(-width // 4)
    rates = _LONGEST_WAVE ** -(torch.arange(count) / count)
    axes = torch.meshgrid(*(torch.arange(size) for size in grid), indexing="ij")
    angles = [axis.flatten()[:, None] * rates for axis in axes]
    waves = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return 0.5 * waves[:, :width]


def _check_sizes(
    input_size: Sequence[int], patch: int, stride: int, width: int, depth: int, heads: int, mlp_ratio: float
) -> None:
    if not 1 <= patch <= min(input_size):
        raise BadInput(
            f"patch must lie between 1 and the image's shorter side {min(input_size)}, got {patch}"
        )
    if stride < 1:
        raise BadInput(f"stride must be at least 1 pixel, got {stride}")
    if width < 1 or heads < 1 or width % heads:
        raise BadInput(f"width must be a multiple of heads, got width {width} and {heads} heads")
    if depth < _LEAST_DEPTH:
        raise BadInput(f"depth must be at least {_LEAST_DEPTH}: four stages, two last blocks; got {depth}")
    if int(width * mlp_ratio) < 1:
        raise BadInput(f"mlp_ratio {mlp_ratio} leaves no hidden channel at width {width}")
