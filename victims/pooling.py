"""From a feature map to a vector."""

from __future__ import annotations

from torch import Tensor

_EPSILON = 1e-12


def gem_pool(features: Tensor, p: float = 3.0) -> Tensor:
    """Generalised-mean pooling of a non-negative N x C x h x w map: ``(mean(x^p) + 1e-12)^(1/p)``, N x C.

    ``p = 1`` is average pooling, ``p`` to infinity maximum pooling. Source: Radenovic et al., TPAMI 2019,
    equation 3; the constant is the one of the released AGW code.
    """
    return (features.flatten(2).pow(p).mean(dim=2) + _EPSILON).pow(1.0 / p)
