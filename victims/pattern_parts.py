"""Part vectors by learned masks over a feature map, and the loss that keeps the masks apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vbench.errors import BadInput
from vbench.victims.widen import widen


class PatternParts(nn.Module):
    """Masks that each look at one pattern of a map: a 1x1 convolution and a sigmoid.

    N x ``channels`` x h x w to N x ``parts`` x h x w in (0, 1). Source: Wu et al., CVPR 2021 (pattern
    alignment).
    """

    def __init__(self, channels: int, parts: int) -> None:
        super().__init__()
        self.attend = nn.Conv2d(channels, parts, kernel_size=1)

    def draw_weights(self, generator: torch.Generator) -> None:
        """Every mask starts at one half on average."""
        nn.init.kaiming_uniform_(self.attend.weight, a=5**0.5, generator=generator)
        nn.init.zeros_(self.attend.bias)

    def forward(self, features: Tensor) -> Tensor:
        """The masks."""
        return self.attend(features).sigmoid()


def masked_vectors(features: Tensor, masks: Tensor) -> Tensor:
    """N x (P + 1) C: the mean of each of P masked maps, mask by mask, and last the mean of the map itself.

    ``features`` is N x C x h x w, ``masks`` N x P x h x w; a mean is over all h x w positions, whatever the
    mask holds.
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
    # A mask times the sum of those before it: every pair once, and no matrix product to be rounded.
    products = masks[:, 1:] * masks[:, :-1].cumsum(dim=1)
    return products.sum() / (len(masks) * parts * (parts - 1) / 2)
