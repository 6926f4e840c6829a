"""Embeds images: batches, evaluation mode, and checks of the victim's output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vbench.core.arithmetic import default_arithmetic
from vbench.core.errors import VbenchError
from vbench.core.isolation import contained
from vbench.core.processes import Batches, from_main, processes
from vbench.core.types import Modality
from vbench.victims.base import Edits, Victim, VictimOutput, example_tensor, frozen
from vbench.victims.precision import entrance

#: Images per process and batch on a CPU, and for each 16 GiB of a GPU's memory up to 64 GiB.
BATCH = 64


@dataclass(frozen=True)
class Embedded:
    """``embeddings``: N x D float32; ``predictions``: N class indices, None without a classifier."""

    embeddings: Tensor
    predictions: Tensor | None


def batch_of(victim: Victim) -> int:
    """Images per process and batch for a victim where it lies: by a GPU's size, not by what is free of it."""
    device = example_tensor(victim).device
    if device.type != "cuda":
        return BATCH
    # The processes of a run share batches, on cards that may differ.
    memory = from_main(lambda: int(torch.cuda.get_device_properties(device).total_memory))
    return BATCH * min(4, max(1, memory >> 34))


def to_images(pixels: np.ndarray | Tensor, victim: Victim) -> Tensor:
    """uint8 N x H x W x 3 pixels as N x 3 x H x W float32 in [0, 1], on the victim's device.

    Always float32: a narrower dtype cannot hold all 256 levels.
    """
    device = example_tensor(victim).device
    chunk = torch.from_numpy(np.array(pixels)) if isinstance(pixels, np.ndarray) else pixels
    return chunk.to(device).permute(0, 3, 1, 2).contiguous().to(torch.float32) / 255


def to_pixels(images: Tensor) -> np.ndarray:
    """N x 3 x H x W images in [0, 1] as rounded uint8 N x H x W x 3 pixels: inverse of :func:`to_images`."""
    return (images.detach() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


@default_arithmetic()
def embed(
    victim: Victim,
    pixels: np.ndarray | Tensor,
    modality: Modality,
    edits: Edits | None = None,
    what: str = "clean images",
    batch: int | None = None,
    quiet: bool = False,
) -> Embedded:
    """Embed N images (uint8 N x H x W x 3) of one modality, ``batch`` at a time per process of the run.

    The batch, :func:`batch_of` without one, is halved on out-of-memory.

    Raises :class:`VbenchError` naming victim and batch when an embedding is not finite.
    """
    found: list[Embedded] = []
    size = (batch or batch_of(victim)) * processes()
    batches = Batches(f"embedding {what}", size, quiet)
    with frozen(victim), torch.no_grad():
        for rows in batches.tracked(len(pixels)):
            with batches.retried():
                images = to_images(pixels[rows], victim).to(entrance(victim))
                seeds, where = range(rows.start, rows.stop), f"{what} {rows.start}-{rows.stop - 1}"
                found.append(embed_batch(victim, images, modality, seeds, where, edits))
    return concatenate(found)


def embed_batch(
    victim: Victim,
    images: Tensor,
    modality: Modality,
    seeds: Sequence[int],
    where: str,
    edits: Edits | None = None,
) -> Embedded:
    """Embed N images (N x 3 x H x W in [0, 1]) with a frozen victim, without changing them.

    A victim that uses global random state gets it from ``seeds``, one per image, so that its randomness
    depends on an image and not on its batch. Raises :class:`VbenchError` naming victim and ``where`` when the
    victim fails, writes to its input, or returns anything but a finite embedding of each image.
    """
    who, given = f"victim '{victim.name}'", images.clone()
    with contained(who, seeds[0]) as ran:
        output = victim(given, modality, edits)
    if not torch.equal(given, images):
        raise VbenchError(f"{who} writes to its input ({where}); let it compute on a copy of the images")
    if ran.drew and len(images) > 1:
        rows = (slice(row, row + 1) for row in range(len(images)))
        return concatenate(
            [embed_batch(victim, images[row], modality, seeds[row], where, edits) for row in rows]
        )
    _check_output(who, victim, output, len(images))
    _check_finite(output.embedding, victim, where)
    predictions = None if output.logits is None else output.logits.argmax(1)
    # A victim may reuse the memory of its output.
    return Embedded(output.embedding.to(torch.float32, copy=True), predictions)


def concatenate(parts: Sequence[Embedded]) -> Embedded:
    """Consecutive parts as one."""
    predictions = [part.predictions for part in parts if part.predictions is not None]
    embeddings = torch.cat([part.embeddings for part in parts])
    return Embedded(embeddings, torch.cat(predictions) if predictions else None)


def _check_output(who: str, victim: Victim, output: object, images: int) -> None:
    if not isinstance(output, VictimOutput):
        raise VbenchError(f"{who}: forward must return a VictimOutput, not a {type(output).__name__}")
    _check_matrix(f"{who}: the embedding", output.embedding, images, None)
    if output.logits is not None:
        _check_matrix(f"{who}: the logits", output.logits, images, victim.num_classes or None)


def _check_matrix(what: str, found: object, rows: int, columns: int | None) -> None:
    if not isinstance(found, Tensor):
        raise VbenchError(f"{what} must be a torch.Tensor, not a {type(found).__name__}")
    if not found.is_floating_point():
        raise VbenchError(f"{what} must be floating-point numbers, not {found.dtype}")
    if found.ndim != 2 or len(found) != rows or columns not in (None, found.shape[1]):
        wanted = f"{rows} x {'D' if columns is None else columns}"
        raise VbenchError(f"{what} of {rows} images must be {wanted}, not {tuple(found.shape)}")


def _check_finite(embedding: Tensor, victim: Victim, where: str) -> None:
    bad = (~torch.isfinite(embedding)).any(1).sum().item()
    if bad:
        raise VbenchError(f"{victim.name}: {bad} of {len(embedding)} embeddings are not finite ({where})")
