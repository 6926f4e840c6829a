"""The discriminative center loss of PMT."""

from __future__ import annotations

import torch
from torch import Tensor

from vbench.errors import BadInput
from vbench.victims.triplet import euclidean


def discriminative_center(vectors: Tensor, labels: Tensor) -> Tensor:
    """Distances from identity centers to their own images, relative to those to close other ones; a scalar.

    ``vectors`` is N x D of both modalities, ``labels`` N. The numerator is the mean Euclidean distance
    between a center (mean vector of an identity) and its images; the denominator averages, for each center,
    the distances to the images of other identities that are nearer than their mean. Raises BadInput if there
    is only one identity. Source: Lu et al., AAAI 2023 (DCL).
    """
    identities = labels.unique()
    if len(identities) < 2:
        raise BadInput("discriminative center loss: a batch needs two identities")
    own = identities[:, None] == labels[None, :]
    centers = own.to(vectors.dtype) @ vectors / own.sum(dim=1, keepdim=True)
    distance = euclidean(centers, vectors)
    threshold = _masked_mean(distance.detach(), ~own)
    # Equal distances have no nearer half: then all of them count, instead of an empty mean.
    near = ~own & (distance.detach() <= threshold[:, None])
    return distance[own].mean() / _masked_mean(distance, near).mean()


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, values, 0).sum(dim=1) / mask.sum(dim=1)
