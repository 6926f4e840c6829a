"""Requirements on every victim, checked once before any work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from numbers import Integral
from typing import Any

from torch import nn

from vbench.core.errors import BadInput, VbenchError, shortened
from vbench.core.types import SIMILARITIES
from vbench.victims.base import Victim
from vbench.victims.checkpoint import check_state

_FILTERS = ("lanczos", "bilinear")


def check_victim(victim: Victim) -> None:
    """Raise BadInput, in one line, for a victim that could not be run, identified or saved.

    Required: attributes of the right types, JSON-able options, weights with values on a single device, and a
    state dict of tensors only.
    """
    name = getattr(victim, "name", None)
    if not isinstance(name, str) or not name:
        raise BadInput(f"victim {type(victim).__name__} has no name; give its class a text 'name'")
    owner = f"victim '{shortened(name)}'"
    _check_attributes(victim, owner)
    _check_weights(victim, owner)
    try:
        state = victim.state_dict()
    except Exception as error:  # a victim's own code may fail in any way
        raise BadInput(
            f"{owner}: it has no state dict ({type(error).__name__}: {shortened(str(error))})"
        ) from error
    check_state(state, owner)
    try:
        json.dumps(victim.describe())
    except VbenchError:
        raise
    except Exception as error:
        raise BadInput(
            f"{owner}: its options must be plain values (JSON), {shortened(str(error))}"
        ) from error


def _check_attributes(victim: Victim, owner: str) -> None:
    def check(attribute: str, meaning: str, is_right: bool) -> None:
        if not is_right:
            value = getattr(victim, attribute, None)
            found = (
                f"not {shortened(repr(value), 60)}" if hasattr(victim, attribute) else "and it is not there"
            )
            raise BadInput(f"{owner}: its attribute '{attribute}' must be {meaning}, {found}")

    def given(attribute: str) -> Any:
        return getattr(victim, attribute, None)

    size, stages = given("input_size"), given("stages")
    check(
        "input_size",
        "(height, width) in pixels",
        _is_sequence(size) and len(size) == 2 and all(map(_counts, size)),
    )
    check(
        "num_classes",
        "the number of training identities, 0 without a classifier",
        _counts(given("num_classes"), 0),
    )
    if hasattr(victim, "embedding_dim"):
        check("embedding_dim", "the length of its embedding", _counts(victim.embedding_dim))
    check("similarity", f"one of {', '.join(SIMILARITIES)}", given("similarity") in SIMILARITIES)
    check("resize_filter", f"one of {', '.join(_FILTERS)}", given("resize_filter") in _FILTERS)
    named = _is_sequence(stages) and all(isinstance(one, str) for one in stages)
    check("stages", "different names in a tuple, () for none", named and len(set(stages)) == len(stages))


def _check_weights(victim: nn.Module, owner: str) -> None:
    tensors = [*victim.parameters(), *victim.buffers()]
    if any(nn.parameter.is_lazy(tensor) for tensor in tensors):
        raise BadInput(f"{owner}: it has lazy parameters without a shape; send one batch through it first")
    devices = sorted({str(tensor.device) for tensor in tensors})
    if len(devices) > 1:
        raise BadInput(f"{owner}: its weights lie on {' and '.join(devices)}; bring them to one device")
    if devices == ["meta"]:
        raise BadInput(f"{owner}: its weights have no values (meta device); load weights first")


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _counts(value: object, least: int = 1) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least
