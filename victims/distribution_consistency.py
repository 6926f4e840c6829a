"""The distribution consistency loss of MMN."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vbench.victims.widen import widen

_WIDTH = 256
_SEED = 0
_EPSILON = 1e-5


class DistributionConsistency(nn.Module):
    """Mean Euclidean distance of paired middle-modality vectors after a projection; a scalar.

    ``visible`` and ``infrared`` are N x ``dim`` each, row i of both showing the same person. They are brought
    to unit length, projected together (``dim`` to 256, batch normalisation, ReLU, 256 to 256, batch
    normalisation, both over this batch) and brought to unit length again. Source: Zhang et al., ACM MM 2021.

    The authors' optimiser leaves the projection out and their files do not hold it: it is random and fixed.
    Here it comes from a fixed seed and is no part of the state dict.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(_SEED)
        for name, fan_in, shape in (
            ("first", dim, (_WIDTH, dim)),
            ("second", _WIDTH, (_WIDTH, _WIDTH)),
            ("shift", _WIDTH, (_WIDTH,)),
        ):
            bound = 1 / math.sqrt(fan_in)
            # On the CPU even while the victim around it is made without storage.
            drawn = torch.empty(shape, device="cpu").uniform_(-bound, bound, generator=generator)
            self.register_buffer(name, drawn, persistent=False)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Compare the pairs; differentiable in both arguments."""
        both = F.normalize(widen(torch.cat((visible, infrared))))
        hidden = F.relu(_standardise(F.linear(both, self.first)))
        projected = F.normalize(widen(_standardise(F.linear(hidden, self.second, self.shift))))
        one, other = projected.chunk(2)
        return torch.linalg.vector_norm(one - other, dim=1).mean()


def _standardise(vectors: Tensor) -> Tensor:
    return F.batch_norm(widen(vectors), None, None, training=True, eps=_EPSILON)
