"""The batch-normalisation neck between the pooled vector and the identity classifier."""

from __future__ import annotations

from torch import nn


def bn_neck(dim: int) -> nn.BatchNorm1d:
    """A BatchNorm1d over N x ``dim`` whose shift exists in checkpoints but is not trained.

    Source: Luo et al., Bag of Tricks, CVPRW 2019 (BNNeck).
    """
    neck = nn.BatchNorm1d(dim)
    neck.bias.requires_grad_(False)
    return neck
