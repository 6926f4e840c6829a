"""DEEN's losses between original and generated vectors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vbench.errors import BadInput
from vbench.victims.identity_centers import identity_centers
from vbench.victims.modality_restitution import Pair
from vbench.victims.triplet import euclidean
from vbench.victims.widen import widen


def center_pair_mining(original: Pair, generated: Pair, labels: Tensor, margin: float = 0.2) -> Tensor:
    """Draw generated vectors to the other modality's identity centers; a scalar.

    ``original`` and ``generated`` are a visible and an infrared N x D tensor each, row i of all showing
    ``labels[i]``. On the centers of identities, with generated ones of one modality: their distance to the
    original center of the other modality must be smaller, by ``margin``, than (whole) that to the original
    center of their own modality, which gets no gradient, and than (half each) the least distance between two
    identities among the generated and among the original centers of their modality. Mean over identities and
    over the two modalities. Raises BadInput for a single identity.
    Source: Zhang et al., CVPR 2023 (center-guided pair mining).
    """
    if len(labels.unique()) < 2:
        raise BadInput("center-guided pair mining: a batch needs two identities")
    # Centers by label; the authors cut the batch into equal runs, which is the same for their sampler only.
    visible, infrared = (identity_centers(vectors, labels)[0] for vectors in original)
    new_visible, new_infrared = (identity_centers(vectors, labels)[0] for vectors in generated)
    return (
        _one_modality(visible, infrared, new_visible, margin)
        + _one_modality(infrared, visible, new_infrared, margin)
    ) / 2


def _one_modality(own: Tensor, other: Tensor, generated: Tensor, margin: float) -> Tensor:
    across = _paired(other, generated)
    within = _paired(own, generated).detach()
    terms = F.relu(margin + across - within)
    for centers in (generated, own):
        terms = terms + F.relu(margin + across - _nearest_other(centers)) / 2
    return terms.mean()


def _paired(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vector_norm(a - b, dim=1)


def _nearest_other(centers: Tensor) -> Tensor:
    distance = euclidean(centers, centers)
    same = torch.eye(len(centers), dtype=torch.bool, device=centers.device)
    return distance.masked_fill(same, torch.inf).amin(dim=1)


def orthogonality(first: Tensor, second: Tensor) -> Tensor:
    """A third of the mean dot product of two versions' N x D vectors of the same image; a scalar.

    Vectors come from rectified maps, so it is never negative. The third is the released code's: it divides
    by the rows of all three versions. Source: Zhang et al., CVPR 2023 (orthogonal loss).
    """
    return (widen(first) * widen(second)).sum(dim=1).mean() / 3
