"""Checks and copies of what attacks return, so that no attack can change what is measured and stored."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vbench.attacks.perturbation import Perturbation
from vbench.core.errors import VbenchError, shortened

#: Most levels of nesting in a log.
_DEEPEST = 50


def own_images(who: str, found: object, clean: Tensor) -> Tensor:
    """A copy of the adversarial images that ``who`` returned for N x 3 x H x W ``clean`` ones.

    Raises :class:`VbenchError` for anything but finite floating-point images of that shape and device.
    """
    images = _floats(who, found, "adversarial images")
    if images.shape != clean.shape:
        shape, wanted = tuple(images.shape), tuple(clean.shape)
        raise VbenchError(f"{who}: adversarial images have shape {shape}, not {wanted}")
    if images.device != clean.device:
        raise VbenchError(f"{who}: adversarial images are on {images.device}, not on {clean.device}")
    if not bool(torch.isfinite(images).all()):
        raise VbenchError(f"{who} yields non-finite pixels")
    return images


def own_perturbation(who: str, found: object, size: tuple[int, int]) -> Perturbation:
    """A copy of what ``who`` learnt for images of ``size`` (H, W), with facts that JSON can hold.

    Raises :class:`VbenchError` for anything but a :class:`Perturbation` of finite tensors in that size.
    """
    if not isinstance(found, Perturbation):
        raise VbenchError(f"{who} learnt {_kind(found)}, not a Perturbation")
    deltas = {name: _floats(who, delta, f"the {name}") for name, delta in found.deltas.items()}
    for name, delta in deltas.items():
        if tuple(delta.shape) != (3, *size):
            raise VbenchError(f"{who}: the {name} has shape {tuple(delta.shape)}, not {(3, *size)}")
        if not bool(torch.isfinite(delta).all()):
            raise VbenchError(f"{who} learnt a non-finite perturbation")
    if not isinstance(found.modules, Mapping):
        raise VbenchError(f"{who}: the modules are {_kind(found.modules)}, not tensors by name")
    modules = {str(name): _tensor(who, one, f"module '{name}'") for name, one in found.modules.items()}
    facts = {}
    for name in ("provenance", "fit_log"):
        try:
            facts[name] = plain(getattr(found, name))
        except (ValueError, RecursionError) as error:
            raise VbenchError(f"{who}: the {name} of what it learnt {error}") from error
        if not isinstance(facts[name], dict):
            raise VbenchError(f"{who}: the {name} of what it learnt is no table of names and values")
    return Perturbation(deltas["delta"], modules, infrared=deltas.get("infrared"), **facts)


def plain(value: Any, depth: int = 0) -> Any:
    """A value as JSON holds it: numbers of NumPy and torch as Python's, arrays as lists, NaN as text.

    Raises ValueError for values that JSON cannot hold, and for more than 50 levels of lists and tables.
    """
    if depth > _DEEPEST:
        raise ValueError(f"is nested more than {_DEEPEST} levels deep")
    if isinstance(value, Enum):
        return plain(value.value, depth)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        # A lone surrogate cannot be encoded in a file.
        return str(value).encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Tensor):
        return plain(value.detach().cpu().numpy(), depth)
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist(), depth)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, Mapping):
        return {_name(key): plain(one, depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one, depth + 1) for one in value]
    raise ValueError(f"holds {_kind(value)}, which JSON cannot hold")


def _name(key: object) -> str:
    found = plain(key)
    if isinstance(found, dict | list):
        raise ValueError(f"holds {_kind(key)} as a name")
    return found if isinstance(found, str) else str(found)


def _floats(who: str, found: object, what: str) -> Tensor:
    copied = _tensor(who, found, what)
    if not copied.is_floating_point():
        raise VbenchError(f"{who}: {what} must be floating-point numbers, not {copied.dtype}")
    return copied


def _tensor(who: str, found: object, what: str) -> Tensor:
    """A detached copy of a tensor."""
    # A subclass of Tensor may report anything about itself.
    if not isinstance(found, Tensor) or type(found) not in (Tensor, nn.Parameter):
        raise VbenchError(f"{who}: {what} must be a torch.Tensor, not {_kind(found)}")
    if found.layout is not torch.strided or found.is_meta:
        raise VbenchError(
            f"{who}: {what} must be dense and hold values, not {found.layout} on {found.device}"
        )
    return found.detach().clone()


def _kind(thing: object) -> str:
    return shortened(
        f"the class {thing.__name__}" if isinstance(thing, type) else f"a {type(thing).__name__}"
    )
