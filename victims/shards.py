"""Splits a victim's batches over processes: each embeds its part, then all embeddings are gathered.

All processes call the victim with the same batch and compute the same loss from the same outputs. In the
backward pass each process propagates the gradient's rows of its own images, and these are gathered to the
gradient of the batch. So an attack that only calls the victim needs no changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vbench.core.processes import all_gather, place, processes, serial
from vbench.core.types import Modality
from vbench.victims.base import Edits, Victim, VictimOutput


@dataclass(frozen=True)
class _Shard:
    """The parts of a batch of ``images`` images, in order, as equal as possible, larger ones first.

    A process without images of a small batch computes the first image, because an edit needs some map; the
    result is discarded. ``serial`` is the number of the pass.
    """

    images: int
    serial: int

    @property
    def sizes(self) -> list[int]:
        each, left = divmod(self.images, processes())
        return [each + (rank < left) for rank in range(processes())]

    @property
    def owned(self) -> int:
        return self.sizes[place().rank]

    @property
    def computed(self) -> slice:
        start = sum(self.sizes[: place().rank]) if self.owned else 0
        return slice(start, start + max(self.owned, 1))


_current: list[_Shard] = []


def shard_victim(victim: Victim) -> None:
    """Let every later call of a victim embed only this process's part of the batch; no-op on one process.

    Call it on all processes, right after loading: precision and surrogates wrap the sharded victim.
    """
    if processes() > 1:
        # Set on this instance, hiding the method of its class.
        victim.forward = partial(_forward, victim.forward)  # type: ignore[method-assign]


def gather_rows(values: Tensor) -> Tensor:
    """Inside an edit: gather the rows of all images of the batch from those of each process. No gradient."""
    return _collect([values], _current[-1], "what an edit sees")[0] if _current else values


def _forward(
    plain: Callable[..., VictimOutput], images: Tensor, modality: Modality, edits: Edits | None = None
) -> VictimOutput:
    if not len(images):
        return plain(images, modality, edits)
    shard = _Shard(len(images), serial())
    with _inside(shard):
        own = plain(_Part.apply(images, shard), modality, edits)
    if own.logits is None:
        (embedding,), logits = _Whole.apply(shard, "embeddings", own.embedding), None
    else:
        embedding, logits = _Whole.apply(shard, "embeddings and logits", own.embedding, own.logits)
    return VictimOutput(embedding, logits, _Maps(own.features, shard), _Maps(own.parts, shard))


@contextmanager
def _inside(shard: _Shard) -> Iterator[None]:
    _current.append(shard)
    try:
        yield
    finally:
        _current.pop()


def _collect(own: list[Tensor], shard: _Shard, what: str) -> list[Tensor]:
    """Rows of the whole batch; if edits returned several maps, version j of image i is row j * images + i."""
    most, rows = max(shard.sizes), shard.owned
    padded = []
    for tensor in own:
        mine = _by_image(tensor, shard)[:rows]
        room = mine.new_zeros(most, *mine.shape[1:])
        room[:rows] = mine
        padded.append(room)
    where = f"{what} of pass {shard.serial} with {shard.images} images"
    collected = []
    for parts in all_gather(padded, where):
        together = torch.cat([part[:size] for part, size in zip(parts, shard.sizes, strict=True)])
        collected.append(together.transpose(0, 1).flatten(0, 1))
    return collected


def _by_image(tensor: Tensor, shard: _Shard) -> Tensor:
    """A tensor of this process as rows x versions x ..., with all versions of an image in one row."""
    return tensor.detach().unflatten(0, (-1, max(shard.owned, 1))).transpose(0, 1)


class _Part(torch.autograd.Function):
    """Forward: the images of this process. Backward: the gathered gradient of all images."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, shard: _Shard) -> Tensor:
        ctx.shard = shard
        return images[shard.computed].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _collect([gradient], ctx.shard, "the gradient")[0], None


class _Whole(torch.autograd.Function):
    """Forward: outputs of the whole batch, gathered. Backward: this process's rows of the gradient."""

    @staticmethod
    def forward(ctx: Any, shard: _Shard, what: str, *own: Tensor) -> tuple[Tensor, ...]:
        ctx.shard, ctx.versions = shard, [len(tensor) // max(shard.owned, 1) for tensor in own]
        ctx.set_materialize_grads(False)
        return tuple(_collect(list(own), shard, what))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        rows = ctx.shard.computed
        own: list[Tensor | None] = []
        for gradient, versions in zip(gradients, ctx.versions, strict=True):
            if gradient is None:
                own.append(None)
                continue
            mine = gradient.unflatten(0, (versions, -1))[:, rows].flatten(0, 1)
            own.append(mine if ctx.shard.owned else torch.zeros_like(mine))
        return None, None, *own


class _Maps(Mapping[str, Tensor]):
    """Tensors of the whole batch, gathered on first access, which must happen on all processes."""

    def __init__(self, own: Mapping[str, Tensor], shard: _Shard) -> None:
        self._own, self._shard = own, shard
        self._found: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._found:
            (self._found[name],) = _Whole.apply(self._shard, name, self._own[name])
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)
