"""The center cluster loss of MPANet."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vbench.errors import BadInput
from vbench.victims.identity_centers import identity_centers
from vbench.victims.triplet import euclidean


def center_cluster(vectors: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Draw vectors to the center of their identity and push centers ``margin`` apart; a scalar.

    ``vectors`` is N x D of both modalities, ``labels`` N. The mean Euclidean distance of a vector to its
    center (the mean vector of an identity) plus the mean of ``max(0, margin - distance)`` over pairs of
    centers, which are counted by the images of the second one. Raises BadInput for a single identity.
    Source: Wu et al., CVPR 2021 (center cluster loss).
    """
    centers, which, counts = identity_centers(vectors, labels)
    if len(centers) < 2:
        raise BadInput("center cluster loss: a batch needs two identities")
    spread = torch.linalg.vector_norm(vectors - centers[which], dim=1).mean()
    gaps = F.relu(margin - euclidean(centers, centers))
    others = counts * (1 - torch.eye(len(centers), dtype=counts.dtype, device=counts.device))
    return spread + ((gaps * others).sum(dim=1) / others.sum(dim=1)).mean()
