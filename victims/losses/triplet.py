"""Triplet losses; identity centers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vbench.core.errors import BadInput


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
