"""GeM pooling, BN neck, L2 normalisation of vectors, normalisation of images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_EPSILON = 1e-12


def gem_pool(features: Tensor, p: float = 3.0) -> Tensor:
    """Generalised-mean pooling of a non-negative N x C x h x w map: ``(mean(x^p) + 1e-12)^(1/p)``, N x C.

    ``p = 1`` is average pooling, ``p`` to infinity maximum pooling. Source: Radenovic et al., TPAMI 2019,
    equation 3; the constant is that of the released AGW code.
    """
    return (features.flatten(2).pow(p).mean(dim=2) + _EPSILON).pow(1.0 / p)


def bn_neck(dim: int) -> nn.BatchNorm1d:
    """A BatchNorm1d over N x ``dim`` whose shift exists in checkpoints but is not trained.

    Source: Luo et al., Bag of Tricks, CVPRW 2019 (BNNeck).
    """
    neck = nn.BatchNorm1d(dim)
    neck.bias.requires_grad_(False)
    return neck


def l2_normalise(vectors: Tensor) -> Tensor:
    """Divide each row of an N x D tensor by its Euclidean length.

    No epsilon, as in the released code of AGW and its successors: a zero row becomes NaN, which the benchmark
    refuses, instead of an embedding with equal distances to all others.
    """
    return vectors / vectors.pow(2).sum(dim=1, keepdim=True).sqrt()


IMAGENET_MEAN = (0.485, 0.456, 0.406)

IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalise(nn.Module):
    """``(images - mean) / std`` per channel for N x 3 x H x W images in [0, 1]; never in place.

    Mean and standard deviation are not part of the state dict: released checkpoints do not hold them.
    """

    def __init__(
        self,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return a new tensor of the same shape."""
        return (images - self.mean) / self.std
