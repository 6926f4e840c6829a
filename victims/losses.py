"""Losses that victims are trained with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vbench.core.errors import BadInput

Pair = tuple[Tensor, Tensor]


def widen(tensor: Tensor) -> Tensor:
    """The tensor in float32 if it is in half precision, otherwise unchanged."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def weighted_regularised_triplet(vectors: Tensor, labels: Tensor) -> Tensor:
    """Mean over anchors i of ``log(1 + exp(sum_j wp_ij d_ij - sum_k wn_ik d_ik))``; a scalar.

    ``vectors`` is N x D, ``labels`` N; d is the Euclidean distance, j runs over the other vectors of the
    anchor's identity with weights softmax(d), k over other identities with weights softmax(-d). Raises
    BadInput if an anchor has no positive or no negative. Source: Ye et al., TPAMI 2022, equations 12-13;
    unlike the released code, an anchor is not its own positive.
    """
    return F.softplus(_weighted_gap(vectors, labels)).mean()


def enhanced_squared_triplet(vectors: Tensor, labels: Tensor) -> Tensor:
    """Mean over anchors of ``log(1 + exp(sign(g) g^2))``, g the exponent of the weighted triplet; a scalar.

    Squaring makes hard anchors (g > 0) count more and easy ones less. Arguments, weights and errors as in
    :func:`weighted_regularised_triplet`. Source: Ye et al., ICCV 2021 (enhanced squared difference); the
    released code's cap of the square at 88 is left out: the exponential does not overflow here, and the cap
    would remove the gradient of the hardest anchors.
    """
    gap = _weighted_gap(vectors, labels)
    return F.softplus(gap * gap.abs()).mean()


def batch_hard_triplet(vectors: Tensor, labels: Tensor, margin: float = 0.3) -> Tensor:
    """Mean over anchors of ``max(0, margin + furthest positive - nearest negative)``; a scalar.

    ``vectors`` is N x D, ``labels`` N, distances are Euclidean. Raises BadInput if an anchor has no positive
    or no negative. Source: Hermans et al., arXiv 1703.07737, equation 5.
    """
    distance = euclidean(vectors, vectors)
    same = labels[:, None] == labels[None, :]
    _check_anchors(same)
    furthest = distance.masked_fill(~same, -torch.inf).amax(dim=1)
    nearest = distance.masked_fill(same, torch.inf).amin(dim=1)
    return F.relu(margin + furthest - nearest).mean()


def euclidean(a: Tensor, b: Tensor) -> Tensor:
    """N x M Euclidean distances in float32 or wider, with a zero gradient where two vectors coincide."""
    return torch.cdist(widen(a), widen(b), compute_mode="donot_use_mm_for_euclid_dist")


def _weighted_gap(vectors: Tensor, labels: Tensor) -> Tensor:
    distance = euclidean(vectors, vectors)
    same = labels[:, None] == labels[None, :]
    _check_anchors(same)
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return _weighted_mean(distance, distance, positive) - _weighted_mean(distance, -distance, ~same)


def _check_anchors(same: Tensor) -> None:
    if not ((same.sum(dim=1) > 1).all() and (~same).any(dim=1).all()):
        raise BadInput("triplet loss: every identity of a batch needs two images, and a batch two identities")


def _weighted_mean(values: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=1)
    return (weights * values).sum(dim=1)


def identity_centers(vectors: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centers I x D of the I identities of N x D ``vectors``, in float32 or wider.

    Also returns each row's identity (N, indices into the centers) and the number of rows of each (I).
    Identities are in the order of their labels.
    """
    vectors = widen(vectors)
    identities, which, counts = labels.unique(return_inverse=True, return_counts=True)
    # Not summed by a matrix product, which automatic mixed precision would round.
    sums = vectors.new_zeros(len(identities), vectors.shape[1]).index_add(0, which, vectors)
    return sums / counts[:, None], which, counts


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


def hetero_center(visible: Tensor, infrared: Tensor, labels: Tensor) -> Tensor:
    """Squared distance of the two modalities' centers, summed over identities; a scalar.

    ``visible`` and ``infrared`` are N x D; row i of both has identity ``labels[i]``. Source: Zhu et al.,
    Neurocomputing 2020 (hetero-center loss; their weight of 1/2 is the caller's).
    """
    first, second = (identity_centers(vectors, labels)[0] for vectors in (visible, infrared))
    return (first - second).square().sum()


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


def modality_enhancement(visible: Tensor, infrared: Tensor, labels: Tensor) -> Tensor:
    """Pull an image as close to its identity in the other modality as in its own; a scalar.

    ``visible`` and ``infrared`` are N x D, ``labels`` N for both. For each image the mean Euclidean distance
    to the images of its identity in the other modality, minus the mean distance to the others in its own, is
    squared; the loss is the mean over all 2N images. Raises BadInput if an identity has one image only.
    Source: Lu et al., AAAI 2023 (MSEL).
    """
    same = labels[:, None] == labels[None, :]
    counts = same.sum(dim=1)
    if (counts < 2).any():
        raise BadInput("modality enhancement: every identity of a batch needs two images of a modality")
    cross = euclidean(visible, infrared) * same
    seen = cross.sum(dim=1) / counts - (euclidean(visible, visible) * same).sum(dim=1) / (counts - 1)
    unseen = cross.sum(dim=0) / counts - (euclidean(infrared, infrared) * same).sum(dim=1) / (counts - 1)
    return (seen.square().mean() + unseen.square().mean()) / 2


_WIDTH = 256

_SEED = 0

_EPSILON = 1e-5


class DistributionConsistency(nn.Module):
    """Mean Euclidean distance of paired middle-modality vectors after a projection; a scalar.

    ``visible`` and ``infrared`` are N x ``dim`` each; row i of both has the same identity. They are
    normalised to unit length, projected together (``dim`` to 256, batch normalisation, ReLU, 256 to 256,
    batch normalisation, both over this batch) and normalised again. Source: Zhang et al., ACM MM 2021.

    The authors' optimiser does not train the projection and their files do not contain it: it is random and
    fixed. Here it comes from a fixed seed and is not in the state dict.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first: Tensor
        self.second: Tensor
        self.shift: Tensor
        generator = torch.Generator().manual_seed(_SEED)
        for name, fan_in, shape in (
            ("first", dim, (_WIDTH, dim)),
            ("second", _WIDTH, (_WIDTH, _WIDTH)),
            ("shift", _WIDTH, (_WIDTH,)),
        ):
            bound = 1 / math.sqrt(fan_in)
            # On the CPU even if the victim around it is built on the meta device.
            sampled = torch.empty(shape, device="cpu").uniform_(-bound, bound, generator=generator)
            self.register_buffer(name, sampled, persistent=False)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Compare the pairs; differentiable in both arguments."""
        both = F.normalize(widen(torch.cat((visible, infrared))))
        hidden = F.relu(_standardise(F.linear(both, self.first)))
        projected = F.normalize(widen(_standardise(F.linear(hidden, self.second, self.shift))))
        one, other = projected.chunk(2)
        return torch.linalg.vector_norm(one - other, dim=1).mean()


def _standardise(vectors: Tensor) -> Tensor:
    return F.batch_norm(widen(vectors), None, None, training=True, eps=_EPSILON)


class MutualClassifiers(nn.Module):
    """A classifier for each modality and its running mean over training steps; logits are N x ``classes``.

    The means get no gradient: :meth:`follow` moves them. Source: Wu et al., CVPR 2021 (mutual mean learning).
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.visible, self.infrared, self.visible_mean, self.infrared_mean = (
            nn.Linear(dim, classes, bias=False) for _ in range(4)
        )
        for mean in (self.visible_mean, self.infrared_mean):
            mean.weight.requires_grad_(False)

    @torch.no_grad()
    def restart(self) -> None:
        """Set the running means to the current classifiers."""
        self.follow(1.0)

    @torch.no_grad()
    def follow(self, rate: float) -> None:
        """Move the running means ``rate`` (0 to 1) of the way to the classifiers."""
        self.visible_mean.weight.lerp_(self.visible.weight, rate)
        self.infrared_mean.weight.lerp_(self.infrared.weight, rate)

    def losses(
        self, visible: Tensor, infrared: Tensor, labels: Tensor, label_smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy of both classifiers, and disagreement with the other modality's mean; two scalars.

        ``visible`` and ``infrared`` are N x D; row i of both has identity ``labels[i]``. The disagreement is
        the Kullback-Leibler divergence from a modality's own prediction to the mean classifier of the other
        modality on the same features, averaged over all 2N images; gradients pass only through the modality's
        own prediction.
        """
        if visible.shape != infrared.shape or len(visible) != len(labels):
            raise BadInput("mutual learning: both modalities need one feature vector a label")
        own = widen(self.visible(visible)), widen(self.infrared(infrared))
        first, second = (F.cross_entropy(one, labels, label_smoothing=label_smoothing) for one in own)
        with torch.no_grad():
            other = widen(self.infrared_mean(visible)), widen(self.visible_mean(infrared))
        mine, theirs = torch.cat(own).log_softmax(dim=1), torch.cat(other).log_softmax(dim=1)
        return first + second, (mine.exp() * (mine - theirs)).sum(dim=1).mean()
