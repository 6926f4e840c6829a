"""Losses on identity centers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vbench.core.errors import BadInput
from vbench.victims.layers.modality import Pair
from vbench.victims.losses.triplet import batch_hard_triplet, euclidean, identity_centers, widen


def center_cluster(vectors: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Pull vectors to the center of their identity and push centers ``margin`` apart; a scalar.

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


def center_pair_mining(original: Pair, generated: Pair, labels: Tensor, margin: float = 0.2) -> Tensor:
    """Pull generated vectors to the other modality's identity centers; a scalar.

    ``original`` and ``generated`` are a visible and an infrared N x D tensor each; row i of all has identity
    ``labels[i]``. The loss is on identity centers. For the generated centers of one modality, the distance to
    the original center of the other modality must be smaller by ``margin`` than two others: (weight 1) the
    distance to the original center of their own modality, which gets no gradient; (weight 1/2 each) the
    smallest distance between two identities among the generated and among the original centers of their
    modality. Mean over identities and over the two modalities. Raises BadInput for a single identity. Source:
    Zhang et al., CVPR 2023 (center-guided pair mining).
    """
    if len(labels.unique()) < 2:
        raise BadInput("center-guided pair mining: a batch needs two identities")
    # Centers by label; the authors split the batch into equal runs, which is equivalent only for their
    # sampler.
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

    Vectors come from rectified maps, so it is never negative. The factor 1/3 is that of the released code,
    which divides by the rows of all three versions. Source: Zhang et al., CVPR 2023 (orthogonal loss).
    """
    return (widen(first) * widen(second)).sum(dim=1).mean() / 3


def center_quadruplet(versions: Sequence[Tensor], labels: Tensor, margin: float) -> Tensor:
    """Keep the centers of an identity's versions together and away from other identities'; a scalar.

    ``versions`` are N x D tensors; row i of all has identity ``labels[i]``: visible and infrared, restituted
    and compensated. Each of the four centers of an identity is an anchor: the mean of
    ``max(0, margin + furthest own center - nearest center of another identity)`` over all of them, distances
    Euclidean. Raises BadInput for fewer than two versions or two identities.
    """
    if len(versions) < 2 or len(labels.unique()) < 2:
        raise BadInput("center quadruplet loss: there must be two versions and two identities at least")
    centers = torch.cat([identity_centers(vectors, labels)[0] for vectors in versions])
    return batch_hard_triplet(centers, labels.unique().repeat(len(versions)), margin)


def causal_separation(normalised: Pair, restituted: Pair, tainted: Pair, labels: Tensor) -> Tensor:
    """Train the distilled parts to have their intended effect; a scalar.

    Every argument but ``labels`` (N) is a visible and an infrared N x D tensor. d is the Euclidean distance
    between the two modalities' centers of an identity, vectors being brought to unit length first. Modality-
    irrelevant features must bring the modalities closer than normalisation left them, modality-relevant ones
    must drive them apart: the mean over identities of
    ``log(1 + exp(d_restituted - d_normalised)) + log(1 + exp(d_normalised - d_tainted))``. The normalised
    distance is only a reference and gets no gradient.
    """
    yardstick = _modality_gap(normalised, labels).detach()
    closer = F.softplus(_modality_gap(restituted, labels) - yardstick)
    apart = F.softplus(yardstick - _modality_gap(tainted, labels))
    return (closer + apart).mean()


def _modality_gap(pair: Pair, labels: Tensor) -> Tensor:
    visible, infrared = (identity_centers(F.normalize(widen(vectors)), labels)[0] for vectors in pair)
    return torch.linalg.vector_norm(visible - infrared, dim=1)


def discriminative_center(vectors: Tensor, labels: Tensor) -> Tensor:
    """Distances from identity centers to their own images, relative to nearby other images; a scalar.

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
    # If all distances are equal, none is below the mean: then all of them count, to avoid an empty mean.
    near = ~own & (distance.detach() <= threshold[:, None])
    return distance[own].mean() / _masked_mean(distance, near).mean()


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, values, 0).sum(dim=1) / mask.sum(dim=1)
