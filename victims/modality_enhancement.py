"""The modality-shared enhancement loss of PMT."""

from __future__ import annotations

from torch import Tensor

from vbench.errors import BadInput
from vbench.victims.triplet import euclidean


def modality_enhancement(visible: Tensor, infrared: Tensor, labels: Tensor) -> Tensor:
    """Pull an image as close to its identity in the other modality as in its own; a scalar.

    ``visible`` and ``infrared`` are N x D, ``labels`` N for both. For each image the mean Euclidean distance
    to the images of its identity in the other modality, less the mean distance to the others in its own, is
    squared; the loss is the mean over all 2N images. Raises BadInput if an identity has one image only.
    Source: Lu et al., AAAI 2023 (MSEL).
    """
    same = labels[:, None] == labels[None, :]
    counts = same.sum(dim=1)
    if (counts < 2).any():
        raise BadInput("modality enhancement: every identity of a batch needs two images of a modality")
    cross = euclidean(visible, infrared) * same
    gaps = (
        cross.sum(dim=1) / counts - (euclidean(visible, visible) * same).sum(dim=1) / (counts - 1),
        cross.sum(dim=0) / counts - (euclidean(infrared, infrared) * same).sum(dim=1) / (counts - 1),
    )
    return sum(gap.square().mean() for gap in gaps) / 2
