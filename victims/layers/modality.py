"""Layers that handle the difference between modalities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.victims.layers.attention import ChannelGate
from vbench.victims.losses.triplet import widen

_START = 0.333


class _Encoder(nn.Module):
    """Normalised N x 3 x H x W images of one modality to one normalised channel."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 1, kernel_size=1)
        self.scale = nn.Conv2d(1, 1, kernel_size=1)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(F.relu(self.scale(F.relu(self.mix(images)))))


class MiddleModality(nn.Module):
    """Turns images of either modality into a shared middle modality, pixel by pixel.

    Each modality has its own encoder to a single channel (1x1 convolutions and batch normalisation); one
    decoder makes three channels of it for both. Source: Zhang et al., ACM MM 2021 (middle modality
    generator).
    """

    def __init__(self) -> None:
        super().__init__()
        self.visible = _Encoder()
        self.infrared = _Encoder()
        self.decoder = nn.Conv2d(1, 3, kernel_size=1)

    def forward(self, images: Tensor, modality: Modality) -> Tensor:
        """Non-negative N x 3 x H x W images of the middle modality, from normalised ones."""
        encoder = self.visible if modality is Modality.VISIBLE else self.infrared
        return F.relu(self.decoder(encoder(images)))

    @torch.no_grad()
    def start_as_average(self) -> None:
        """Give every convolution the authors' initial weights: all equal, so that channels are averaged."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.constant_(module.weight, _START)
                nn.init.zeros_(module.get_parameter("bias"))


class ModalityAlleviation(nn.Module):
    """Blend a map with its instance-normalised version, channel by channel.

    N x C x h x w to the same shape: ``m x + (1 - m) IN(x)`` with a gate m for each channel of each image.
    Normalisation has neither scale nor shift. In training a map needs more than one position. Source: Wu et
    al., CVPR 2021 (modality alleviation module).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = ChannelGate(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Gate and blend."""
        gate = self.gate(features)
        return gate * features + (1 - gate) * F.instance_norm(features)


Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Disentangled:
    """Maps of a visible and an infrared batch, N x C x h x w each; row i of both has the same identity.

    ``normalised``: IN(F); ``restituted``: IN(F) plus the modality-irrelevant part of the removed F - IN(F);
    ``tainted``: IN(F) plus the modality-relevant part instead; ``compensated``: the restituted map plus the
    modality-relevant part of the other modality's map.
    """

    normalised: Pair
    restituted: Pair
    tainted: Pair
    compensated: Pair


class ModalityRestitution(nn.Module):
    """An instance normalisation for each modality, and gates that distil what it removed.

    With the removed R = F - IN(F), the restitution gate a keeps its modality-irrelevant channels, a R, and
    the compensation gate b its modality-relevant ones, b R. A forward pass only restitutes, IN(F) + a R,
    because compensation needs both modalities. Maps need more than one position in training. Source: Zhang et
    al., AAAI 2023 (MRM and MCM), with gates as in Jin et al., CVPR 2020 (SNR).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.visible_norm = nn.InstanceNorm2d(channels, affine=True)
        self.infrared_norm = nn.InstanceNorm2d(channels, affine=True)
        self.restitute = ChannelGate(channels)
        self.compensate = ChannelGate(channels)

    @torch.no_grad()
    def draw_weights(self, generator: torch.Generator) -> None:
        """Initialise normalisation with scale 1 and shift 0; the gates sample their own weights."""
        for norm in (self.visible_norm, self.infrared_norm):
            nn.init.ones_(norm.weight)
            nn.init.zeros_(norm.bias)

    def forward(self, features: Tensor, modality: Modality) -> Tensor:
        """Normalised and restituted N x C x h x w map of one modality."""
        normalised, removed = self._split(features, modality)
        return normalised + self.restitute(removed) * removed

    def disentangle(self, visible: Tensor, infrared: Tensor) -> Disentangled:
        """All versions of the maps of a paired training batch, N x C x h x w of each modality."""
        split = self._split(visible, Modality.VISIBLE), self._split(infrared, Modality.INFRARED)
        seen, unseen = (kept for kept, _ in split)
        seen_back, unseen_back = (kept + self.restitute(removed) * removed for kept, removed in split)
        seen_own, unseen_own = (self.compensate(removed) * removed for _, removed in split)
        return Disentangled(
            normalised=(seen, unseen),
            restituted=(seen_back, unseen_back),
            tainted=(seen + seen_own, unseen + unseen_own),
            compensated=(seen_back + unseen_own, unseen_back + seen_own),
        )

    def _split(self, features: Tensor, modality: Modality) -> Pair:
        norm = self.visible_norm if modality is Modality.VISIBLE else self.infrared_norm
        normalised = norm(features)
        return normalised, features - normalised


_DILATIONS = (1, 2, 3)

BRANCHES = 2


class _Branch(nn.Module):
    """Dilated 3x3 convolutions to a quarter of the channels, their mean, ReLU, and back by 1x1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 4
        self.dilated = nn.ModuleList(
            nn.Conv2d(channels, inner, kernel_size=3, padding=dilation, dilation=dilation, bias=False)
            for dilation in _DILATIONS
        )
        self.project = nn.Conv2d(inner, channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        mean = sum(convolve(features) for convolve in self.dilated) / len(self.dilated)
        return self.project(F.relu(mean))


class EmbeddingExpansion(nn.Module):
    """N x ``channels`` x h x w maps to 3N maps: the originals, then a first and a second version of each.

    Source: Zhang et al., CVPR 2023 (diverse embedding expansion).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_Branch(channels) for _ in range(BRANCHES))

    def forward(self, features: Tensor) -> Tensor:
        """Version v of image i is row ``v * N + i``."""
        return torch.cat((features, *(branch(features) for branch in self.branches)))


class PatternParts(nn.Module):
    """Masks that each select one pattern of a map: a 1x1 convolution and a sigmoid.

    N x ``channels`` x h x w to N x ``parts`` x h x w in (0, 1). Source: Wu et al., CVPR 2021 (pattern
    alignment).
    """

    def __init__(self, channels: int, parts: int) -> None:
        super().__init__()
        self.attend = nn.Conv2d(channels, parts, kernel_size=1)

    def draw_weights(self, generator: torch.Generator) -> None:
        """Every mask starts at one half on average."""
        nn.init.kaiming_uniform_(self.attend.weight, a=5**0.5, generator=generator)
        nn.init.zeros_(self.attend.get_parameter("bias"))

    def forward(self, features: Tensor) -> Tensor:
        """The masks."""
        return self.attend(features).sigmoid()


def masked_vectors(features: Tensor, masks: Tensor) -> Tensor:
    """N x (P + 1) C: the mean of each of P masked maps, mask by mask, and last the mean of the map itself.

    ``features`` is N x C x h x w, ``masks`` N x P x h x w; a mean is over all h x w positions, not only those
    inside the mask.
    """
    flat, weights = features.flatten(2), masks.flatten(2)
    parts = weights @ flat.transpose(1, 2) / flat.shape[2]
    return torch.cat((parts.flatten(1), flat.mean(dim=2)), dim=1)


def mask_overlap(masks: Tensor) -> Tensor:
    """Inner product of two masks of an image, averaged over pairs of masks and images; a scalar.

    ``masks`` is N x P x h x w; raises BadInput for a single mask. Source: the separation loss of Wu et al.,
    CVPR 2021.
    """
    parts = masks.shape[1]
    if parts < 2:
        raise BadInput("mask overlap: there must be two masks at least")
    masks = widen(masks)
    # Each mask times the sum of those before it: every pair once, without a matrix product, which would
    # round.
    products = masks[:, 1:] * masks[:, :-1].cumsum(dim=1)
    return products.sum() / (len(masks) * parts * (parts - 1) / 2)
