"""Losses whose sums would suffer in half precision."""

from __future__ import annotations

import torch
from torch import Tensor


def widen(tensor: Tensor) -> Tensor:
    """The tensor in float32 if it is in half precision, as it is otherwise."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
