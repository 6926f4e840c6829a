"""Modality restitution and compensation: what instance normalisation removed, told apart and given back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vbench.types import Modality
from vbench.victims.channel_gate import ChannelGate

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Disentangled:
    """Maps of a visible and an infrared batch, N x C x h x w each, row i of both of one identity.

    ``normalised``: IN(F); ``restituted``: with the modality-irrelevant part of the removed F - IN(F) added;
    ``tainted``: IN(F) with the modality-relevant part added instead; ``compensated``: the restituted map with
    the modality-relevant part of the other modality's map added.
    """

    normalised: Pair
    restituted: Pair
    tainted: Pair
    compensated: Pair


class ModalityRestitution(nn.Module):
    """An instance normalisation for each modality, and gates that distil what it removed.

    With the removed R = F - IN(F), the restitution gate a keeps its modality-irrelevant channels, a R, and
    the compensation gate b its modality-relevant ones, b R. A forward pass restitutes only: IN(F) + a R, as
    compensation takes both modalities. Maps need more than one position in training. Source: Zhang et al.,
    AAAI 2023 (MRM and MCM), with gates as in Jin et al., CVPR 2020 (SNR).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.visible_norm = nn.InstanceNorm2d(channels, affine=True)
        self.infrared_norm = nn.InstanceNorm2d(channels, affine=True)
        self.restitute = ChannelGate(channels)
        self.compensate = ChannelGate(channels)

    @torch.no_grad()
    def draw_weights(self, generator: torch.Generator) -> None:
        """Plain normalisation at first; the gates draw their own weights."""
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
        normalised = tuple(kept for kept, _ in split)
        restituted = tuple(kept + self.restitute(removed) * removed for kept, removed in split)
        relevant = tuple(self.compensate(removed) * removed for _, removed in split)
        tainted = tuple(kept + own for kept, own in zip(normalised, relevant, strict=True))
        compensated = tuple(own + other for own, other in zip(restituted, relevant[::-1], strict=True))
        return Disentangled(normalised, restituted, tainted, compensated)

    def _split(self, features: Tensor, modality: Modality) -> Pair:
        norm = self.visible_norm if modality is Modality.VISIBLE else self.infrared_norm
        normalised = norm(features)
        return normalised, features - normalised
