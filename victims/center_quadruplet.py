"""The center-quadruplet causal loss of MRCN, in two parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vbench.errors import BadInput
from vbench.victims.identity_centers import identity_centers
from vbench.victims.modality_restitution import Pair
from vbench.victims.triplet import batch_hard_triplet
from vbench.victims.widen import widen


def center_quadruplet(versions: Sequence[Tensor], labels: Tensor, margin: float) -> Tensor:
    """Keep the centers of an identity's versions together and away from other identities'; a scalar.

    ``versions`` are N x D vectors each, row i of all showing ``labels[i]``: visible and infrared, restituted
    and compensated. Each of the four centers of an identity is an anchor: the mean of ``max(0, margin +
    furthest own center - nearest center of another identity)`` over all of them, distances Euclidean. Raises
    BadInput for fewer than two versions or two identities.
    """
    if len(versions) < 2 or len(labels.unique()) < 2:
        raise BadInput("center quadruplet loss: there must be two versions and two identities at least")
    centers = torch.cat([identity_centers(vectors, labels)[0] for vectors in versions])
    return batch_hard_triplet(centers, labels.unique().repeat(len(versions)), margin)


def causal_separation(normalised: Pair, restituted: Pair, tainted: Pair, labels: Tensor) -> Tensor:
    """Ask that the distilled parts have the effect they are distilled for; a scalar.

    Every argument but ``labels`` (N) is a visible and an infrared N x D tensor. d is the Euclidean distance
    between the two modalities' centers of an identity, vectors being brought to unit length first. Modality-
    irrelevant features must bring the modalities closer than normalisation left them, modality-relevant ones
    must drive them apart: the mean over identities of ``log(1 + exp(d_restituted - d_normalised)) + log(1 +
    exp(d_normalised - d_tainted))``. The normalised distance is a yardstick and gets no gradient.
    """
    yardstick = _modality_gap(normalised, labels).detach()
    closer = F.softplus(_modality_gap(restituted, labels) - yardstick)
    apart = F.softplus(yardstick - _modality_gap(tainted, labels))
    return (closer + apart).mean()


def _modality_gap(pair: Pair, labels: Tensor) -> Tensor:
    visible, infrared = (identity_centers(F.normalize(widen(vectors)), labels)[0] for vectors in pair)
    return torch.linalg.vector_norm(visible - infrared, dim=1)
