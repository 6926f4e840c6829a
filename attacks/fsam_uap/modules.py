"""FSAM, SFM, kinds of attention, and the edits that insert them into a victim."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Literal, cast

import torch
from torch import Tensor, nn

from vbench.core.types import Modality
from vbench.victims.base import Edits
from vbench.victims.shards import gather_rows

#: Whose masks have weights of their own: no modality's, each modality's at the first stage (FSAM) alone, or
#: at both (FSAM and SFM).
Masks = Literal["shared", "first_stage", "per_modality"]

#: The paths through the modules: all of them; frequency attention alone; that after the first stage alone.
Path = Literal["x2", "x1", "x1_first"]

KINDS = ("cbam_spatial", "se", "eca", "identity")


class SpatialAttention(nn.Module):
    """sigmoid(conv7x7([channel mean; channel max])): N x 1 x h x w, the spatial half of CBAM."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, features: Tensor) -> Tensor:
        pooled = torch.cat([features.mean(1, keepdim=True), features.amax(1, keepdim=True)], 1)
        return torch.sigmoid(self.conv(pooled))


class SqueezeExcitation(nn.Module):
    """sigmoid(W2 relu(W1 mean)): N x C x 1 x 1 (Hu et al., CVPR 2018, reduction 16)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        inner = max(channels // reduction, 1)
        self.squeeze = nn.Linear(channels, inner)
        self.excite = nn.Linear(inner, channels)

    def forward(self, features: Tensor) -> Tensor:
        inner = torch.relu(self.squeeze(features.mean((2, 3))))
        return torch.sigmoid(self.excite(inner))[:, :, None, None]


class EfficientChannelAttention(nn.Module):
    """sigmoid(conv1d over neighbouring channel means): N x C x 1 x 1 (Wang et al., CVPR 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        size = int(abs(math.log2(channels) / 2 + 0.5))
        size += 1 - size % 2
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2)

    def forward(self, features: Tensor) -> Tensor:
        means = features.mean((2, 3)).unsqueeze(1)
        return torch.sigmoid(self.conv(means)).squeeze(1)[:, :, None, None]


class NoAttention(nn.Module):
    """A mask of ones: the control that turns the module around it into the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, features: Tensor) -> Tensor:
        return features.new_ones(1, 1, 1, 1)


def attention(kind: str, channels: int, start: float, generator: torch.Generator) -> nn.Module:
    """Build an attention of one of :data:`KINDS` with initial mask values near ``start`` in (0, 1)."""
    classes = dict(
        zip(KINDS, (SpatialAttention, SqueezeExcitation, EfficientChannelAttention, NoAttention), strict=True)
    )
    # Built on the meta device: torch's own initialisation would use global random state.
    with torch.device("meta"):
        module = classes[kind](channels)
    module = module.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            draw = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(draw / fan_in**0.5 if parameter.ndim > 1 else torch.zeros_like(draw))
        biases = [getattr(child, "bias", None) for child in module.modules()]
        found = [bias for bias in biases if isinstance(bias, Tensor)]
        if found:
            found[-1].fill_(math.log(start / (1 - start)))
    return module


def opposite(values: Tensor) -> Tensor:
    """Values of a full spectrum (... x h x w) at the opposite frequencies: row -k, column -l for k, l."""
    return values.flip(-2, -1).roll((1, 1), (-2, -1))


def whole_phase(half: Tensor, width: int) -> Tensor:
    """Phase of the full spectrum, ... x h x ``width``, from that of its half, ... x h x (width // 2 + 1)."""
    missing = half[..., 1 : (width + 1) // 2]
    return torch.cat([half, -missing.flip(-2, -1).roll(1, -2)], -1)


def mask_phase(spectrum: Tensor, phase: Tensor, mask: Tensor, width: int) -> Tensor:
    """real(IFFT(A exp(i M P))) per channel over h, w, with A and P amplitude and phase of the full FFT.

    ``spectrum`` S: the half spectrum of N x C x h x ``width`` real features, ``phase`` its phase; ``mask`` M
    broadcasts to the full spectrum and need not be symmetric. A mask of ones returns the features unchanged.

    Taking the real part averages each frequency with its opposite one: A / 2 (exp(i M P) + exp(i M' P)) with
    M' the mask at the opposite frequency, which is S exp(i ((M + M') / 2 - 1) P) cos((M - M') / 2 P).
    """
    length = torch.ones_like(phase)
    if mask.shape[-1] > 1:
        columns = spectrum.shape[-1]
        near, far = mask[..., :columns], opposite(mask)[..., :columns]
        # The first column, and the last of an even width, hold both opposite frequencies.
        gather_rows = torch.arange(columns, device=mask.device) * 2 % width == 0
        mask = torch.where(gather_rows, near, (near + far) / 2)
        length = torch.cos((near - mask) * phase)
    turned = spectrum * torch.polar(length, (mask - 1) * phase)
    # One axis after the other drops what a real signal cannot have; in two dimensions it is undefined.
    return torch.fft.irfft(torch.fft.ifft(turned, dim=-2), n=width, dim=-1)


class FSAM(nn.Module):
    """Frequency-spatial attention module: an attention mask multiplies the phase of the feature map.

    ``rectify``: negative values become 0 in maps that had none, as after a ReLU.
    """

    def __init__(self, attention: nn.Module, rectify: bool = False) -> None:
        super().__init__()
        self.attention = attention
        self.rectify = rectify

    def mask(self, features: Tensor) -> Tensor:
        """The attention mask on the phase of N x C x h x w features, in [0, 1]."""
        return self.attention(whole_phase(torch.fft.rfft2(features).angle(), features.shape[-1]))

    def forward(self, features: Tensor) -> Tensor:
        width, spectrum = features.shape[-1], torch.fft.rfft2(features)
        phase = spectrum.angle()
        turned = mask_phase(spectrum, phase, self.attention(whole_phase(phase, width)), width)
        if not self.rectify:
            return turned
        rectified = (features >= 0).flatten(1).all(1)[:, None, None, None]
        return torch.where(rectified, turned.clamp_min(0), turned)


class SFM(nn.Module):
    """Spatial focusing module: an attention mask multiplies the feature map."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def mask(self, features: Tensor) -> Tensor:
        """The attention mask on N x C x h x w features, in [0, 1]."""
        return self.attention(features)

    def forward(self, features: Tensor) -> Tensor:
        return features * self.attention(features)


@dataclass(frozen=True)
class MaskStatistics:
    """Statistics of the mask values of one module on a batch; all are in [0, 1]."""

    mean: float
    spread: float
    saturated: float


class FeatureModules(nn.Module):
    """FSAM and SFM after chosen stages.

    ``channels``: stage name -> channels there, in forward order; ``frequency`` and ``spatial``: the stages
    with FSAM and with SFM. ``masks``: whose masks have weights of their own. Without a module the map passes
    through unchanged.
    """

    def __init__(
        self,
        channels: Mapping[str, int],
        frequency: Collection[str],
        spatial: Collection[str],
        kind: str,
        start: float,
        generator: torch.Generator,
        masks: Masks = "shared",
        rectify: bool = False,
    ) -> None:
        super().__init__()
        self.masks = masks
        self.stages = tuple(channels)

        def build(
            module: Callable[[nn.Module], FSAM | SFM], stages: Collection[str], own: bool
        ) -> nn.ModuleDict:
            names = [f"{modality.value}/" for modality in Modality] if own else [""]
            return nn.ModuleDict(
                {
                    name + stage: module(attention(kind, width, start, generator))
                    for name in names
                    for stage, width in channels.items()
                    if stage in stages
                }
            )

        self.frequency = build(partial(FSAM, rectify=rectify), frequency, masks != "shared")
        self.spatial = build(SFM, spatial, masks == "per_modality")

    def edits(self, modality: Modality, path: Path = "x2") -> Edits:
        """The modules of a path, each stage's in order: frequency attention, then spatial focus."""
        return {stage: nn.Sequential(*found) for stage, found in self._path(modality, path).items()}

    def forked_edits(self, modality: Modality, path: Path) -> Edits:
        """``path`` and x2 in one pass of a victim with ``forks``: first rows of the one, then of the other.

        What both have in common before they part runs once for both.
        """
        one, two = self._path(modality, path), self._path(modality, "x2")
        edits: dict[str, Callable[[Tensor], Tensor]] = {}
        forked = False
        for stage, modules in two.items():
            other = one.get(stage, [])
            if not forked and modules == other:
                edits[stage] = nn.Sequential(*modules)
            else:
                edits[stage] = _fork(other, modules, first=not forked)
                forked = True
        return edits

    def _path(self, modality: Modality, path: Path) -> dict[str, list[FSAM | SFM]]:
        found: dict[str, list[FSAM | SFM]] = {}
        for modules in (self.frequency, self.spatial)[: 2 if path == "x2" else 1]:
            for stage in self.stages[: 1 if path == "x1_first" else None]:
                for name in (stage, f"{modality.value}/{stage}"):
                    if name in modules:
                        # A type checker does not know the types in a ModuleDict.
                        found.setdefault(stage, []).append(cast("FSAM | SFM", modules[name]))
        return {stage: found[stage] for stage in self.stages if stage in found}

    @torch.no_grad()
    def mask_statistics(self, run: Callable[[Modality, Edits], object]) -> dict[str, MaskStatistics]:
        """Statistics of every mask while ``run`` sends a batch of a modality through the victim with edits.

        Only visible images pass through masks that both modalities share. ``saturated`` is the share of mask
        values within 0.01 of 0 or 1.
        """
        found: dict[str, MaskStatistics] = {}

        def watch(stage: str, modality: Modality, modules: list[FSAM | SFM]) -> Callable[[Tensor], Tensor]:
            def edit(features: Tensor) -> Tensor:
                for module in modules:
                    mask = module.mask(features)
                    mask = gather_rows(mask.expand(len(features), *mask.shape[1:]))
                    closed = ((mask < 0.01) | (mask > 0.99)).float().mean().item()
                    name = f"{type(module).__name__.lower()}.{stage}"
                    name += "" if self.masks == "shared" else f".{modality.value}"
                    found[name] = MaskStatistics(mask.mean().item(), mask.std(unbiased=False).item(), closed)
                    features = module(features)
                return features

            return edit

        for modality in list(Modality)[: 1 if self.masks == "shared" else None]:
            path = self._path(modality, "x2")
            run(modality, {stage: watch(stage, modality, modules) for stage, modules in path.items()})
        return found


def _fork(one: list[FSAM | SFM], two: list[FSAM | SFM], first: bool) -> Callable[[Tensor], Tensor]:
    """Rows of path ``one``, then of ``two``; at the ``first`` fork both begin with the same rows."""
    common = len(list(takewhile(lambda pair: pair[0] is pair[1], zip(one, two, strict=False))))

    def edit(features: Tensor) -> Tensor:
        features = nn.Sequential(*two[:common])(features)
        halves = (features, features) if first else features.chunk(2)
        rests = (one[common:], two[common:])
        return torch.cat([nn.Sequential(*rest)(half) for rest, half in zip(rests, halves, strict=True)])

    return edit
