"""The weighted regularised triplet loss of AGW."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vbench.errors import BadInput


def weighted_regularised_triplet(vectors: Tensor, labels: Tensor) -> Tensor:
    """Mean over anchors i of ``log(1 + exp(sum_j wp_ij d_ij - sum_k wn_ik d_ik))``; a scalar.

    ``vectors`` is N x D, ``labels`` N; d is the Euclidean distance, j runs over the other vectors of the
    anchor's identity with weights softmax(d), k over other identities with weights softmax(-d). Raises
    BadInput if an anchor has no positive or no negative. Source: Ye et al., TPAMI 2021, equations 12-13;
    unlike the released code, an anchor is not its own positive.
    """
    distance = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    same = labels[:, None] == labels[None, :]
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    if not (positive.any(dim=1).all() and (~same).any(dim=1).all()):
        raise BadInput("triplet loss: every identity of a batch needs two images, and a batch two identities")
    far = _weighted_mean(distance, distance, positive)
    near = _weighted_mean(distance, -distance, ~same)
    return F.softplus(far - near).mean()


def _weighted_mean(values: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=1)
    return (weights * values).sum(dim=1)
