"""Auxiliary quadruple adversarial loss (AQAL) on four groups of embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

Hinge = Literal["relu", "soft"]


@dataclass(frozen=True)
class AQALValue:
    """``loss``: scalar; ``active``: mean slope of the hinge over the (j, k) triples, in [0, 1].

    With a "relu" hinge that is the share of triples above zero; at 0 the loss has no gradient at all.
    """

    loss: Tensor
    active: float


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance of rows of two N x D tensors, N values, with a zero gradient where they meet."""
    return ((a - b).square().sum(1) + 1e-12).sqrt()


def one_way(other: Tensor, same: Tensor, anchor: Tensor, margin: float, hinge: Hinge) -> AQALValue:
    """L(v2, i2, v1) with ``same`` = v2, ``other`` = i2, ``anchor`` = v1; row j of each is identity j.

    The mean over ordered pairs j != k of [D(v2_j, v1_j) - D(i2_j, v1_j) - D(v2_j, v2_k) + margin]_+ . The
    published loss is the sum; the mean keeps its weight against the identity term free of the batch size.
    ``hinge`` "soft" replaces [.]_+ by softplus, which never goes dead.
    """
    count = len(same)
    first = distances(same, anchor) - distances(other, anchor)
    gaps = (same[:, None] - same[None, :]).square().sum(2)
    apart = ~torch.eye(count, dtype=torch.bool, device=same.device)
    inner = (first[:, None] - (gaps + 1e-12).sqrt() + margin)[apart]
    if hinge == "soft":
        return AQALValue(softplus(inner).mean(), torch.sigmoid(inner).mean().item())
    return AQALValue(inner.clamp_min(0).mean(), (inner > 0).to(inner).mean().item())


def aqal(v2: Tensor, i2: Tensor, v1: Tensor, i1: Tensor, margin: float, hinge: Hinge) -> AQALValue:
    """L(v2, i2, v1) + L(i2, v2, i1) on P x D points of P different identities (P >= 2)."""
    visible = one_way(i2, v2, v1, margin, hinge)
    infrared = one_way(v2, i2, i1, margin, hinge)
    return AQALValue(visible.loss + infrared.loss, (visible.active + infrared.active) / 2)
