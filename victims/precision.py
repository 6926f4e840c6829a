"""Mixed precision and memory layout of a victim, applied by a wrapper around its forward pass.

Everything outside that pass (distances, losses, metrics, the update of an image) keeps the images' dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor

from vbench.core.arithmetic import float32_products
from vbench.core.types import Modality
from vbench.victims.base import Edits, Victim, VictimOutput

DTYPES = ("float32", "bfloat16", "float16")
#: In float16 gradients inside the victim are scaled by this factor, so that small ones do not become zero.
_SCALE = 256.0


@dataclass(frozen=True)
class Precision:
    """``dtype``: one of :data:`DTYPES`, by autocast unless float32. ``channels_last``: memory layout."""

    dtype: str = "float32"
    channels_last: bool = False

    def __str__(self) -> str:
        return f"{self.dtype}, channels-last" if self.channels_last else self.dtype

    def card(self) -> dict[str, object]:
        """JSON-able description."""
        return asdict(self)


PLAIN = Precision()


def precision_of(victim: Victim) -> Precision:
    """The precision set by :func:`compute_in`."""
    layer = _layer(victim)
    return layer.keywords["precision"] if layer else PLAIN


def precision_card(victim: Victim) -> dict[str, object]:
    """All settings of a victim's arithmetic, JSON-able.

    "dtype": of the pass, by "autocast" or because its weights have that dtype; "parameters": the dtype of the
    weights, "bfloat16+float32" where they differ; "channels_last"; "float32":
    :func:`vbench.core.arithmetic.float32_products`.
    """
    chosen, own = precision_of(victim), entrance(victim)
    autocast = chosen.dtype != PLAIN.dtype
    types = {_name(one.dtype) for one in victim.parameters() if one.is_floating_point()}
    device = next((one.device for one in victim.parameters()), torch.device("cpu"))
    return {
        "dtype": chosen.dtype if autocast else _name(own),
        "autocast": autocast,
        "parameters": "+".join(sorted(types or {_name(own)})),
        "channels_last": chosen.channels_last,
        "float32": float32_products(device),
    }


def compute_in(victim: Victim, precision: Precision) -> None:
    """Let every later call of a victim compute in a precision; embeddings have the images' dtype.

    Weights keep their dtype and values. Images of another dtype are converted to that of the weights inside
    the call, since a narrower dtype cannot hold all 256 levels. Edits get and return maps in the images'
    dtype.
    """
    # Set and removed on this instance, hiding the method of its class; type checkers do not support that.
    before, layer = precision_of(victim), _layer(victim)
    if layer:
        del victim.forward
        if layer.args[0] != victim.forward:
            victim.forward = layer.args[0]  # type: ignore[method-assign]
    if precision.channels_last != before.channels_last:
        layout = torch.channels_last if precision.channels_last else torch.contiguous_format
        victim.to(memory_format=layout)
    if precision != PLAIN or entrance(victim) is not torch.float32:
        layer = partial(_forward, victim.forward, precision=precision, victim=victim)
        victim.forward = layer  # type: ignore[method-assign]


def take_float32(victim: Victim) -> None:
    """Let a victim with weights of another dtype accept float32 images, as all others do."""
    compute_in(victim, precision_of(victim))


def converts(victim: Victim) -> bool:
    """Whether a victim takes images of any dtype: :func:`compute_in` was called for it."""
    return _layer(victim) is not None


def entrance(victim: Victim) -> torch.dtype:
    """The dtype in which a victim takes images: that of its first weights."""
    return next((one.dtype for one in victim.parameters() if one.is_floating_point()), torch.float32)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _layer(victim: Victim) -> partial[VictimOutput] | None:
    """The wrapper that :func:`compute_in` put around the forward pass, possibly outside other wrappers."""
    forward = vars(victim).get("forward")
    return forward if getattr(forward, "func", None) is _forward else None


def _forward(
    plain: Callable[..., VictimOutput],
    images: Tensor,
    modality: Modality,
    edits: Edits | None = None,
    *,
    precision: Precision,
    victim: Victim,
) -> VictimOutput:
    dtype, scale = getattr(torch, precision.dtype), _SCALE if precision.dtype == "float16" else 1.0
    autocast = partial(torch.autocast, images.device.type, dtype, enabled=dtype is not torch.float32)

    def outside(edit: Callable[[Tensor], Tensor], features: Tensor) -> Tensor:
        with autocast(enabled=False):
            edited = edit(_scale_gradient(features.to(images.dtype), scale))
            return _scale_gradient(edited, 1 / scale).to(features.dtype)

    inside = {stage: partial(outside, edit) for stage, edit in (edits or {}).items()}
    given = _scale_gradient(images, 1 / scale).to(entrance(victim))
    if precision.channels_last:
        given = given.contiguous(memory_format=torch.channels_last)
    with autocast():
        output = plain(given, modality, inside)

    def back(tensor: Tensor) -> Tensor:
        return _scale_gradient(tensor.to(images.dtype), scale)

    logits = None if output.logits is None else back(output.logits)
    parts = {name: back(part) for name, part in output.parts.items()}
    return VictimOutput(back(output.embedding), logits, _Converted(output.features, back), parts)


def _scale_gradient(tensor: Tensor, factor: float) -> Tensor:
    """The same values, with a gradient ``factor`` times as large."""
    if factor == 1.0 or not tensor.requires_grad:
        return tensor
    same = tensor.view_as(tensor)
    same.register_hook(lambda gradient: gradient * factor)
    return same


class _Converted(Mapping[str, Tensor]):
    """Feature maps that are converted on access."""

    def __init__(self, maps: Mapping[str, Tensor], convert: Callable[[Tensor], Tensor]) -> None:
        self._maps, self._convert = maps, convert

    def __getitem__(self, stage: str) -> Tensor:
        return self._convert(self._maps[stage])

    def __iter__(self) -> Iterator[str]:
        return iter(self._maps)

    def __len__(self) -> int:
        return len(self._maps)
