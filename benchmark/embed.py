"""Embedding many images: batches, evaluation mode, and a refusal of non-finite results."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vbench.arithmetic import undisturbed
from vbench.errors import VbenchError
from vbench.parallel.group import processes
from vbench.portions import Portions
from vbench.precision import entrance
from vbench.types import Modality
from vbench.victims.base import Edits, Victim, frozen

#: Images a process takes at a time.
BATCH = 64


@dataclass(frozen=True)
class Embedded:
    """``embeddings``: N x D float32; ``predictions``: N class indices, None without a classifier."""

    embeddings: Tensor
    predictions: Tensor | None


def to_images(pixels: np.ndarray | Tensor, victim: Victim) -> Tensor:
    """uint8 N x H x W x 3 pixels as N x 3 x H x W float32 in [0, 1], on the victim's device.

    Always float32: in a narrower type most of the 256 levels do not exist.
    """
    device = next(victim.parameters()).device
    chunk = torch.from_numpy(np.array(pixels)) if isinstance(pixels, np.ndarray) else pixels
    return chunk.to(device).permute(0, 3, 1, 2).contiguous().to(torch.float32) / 255


def to_pixels(images: Tensor) -> np.ndarray:
    """N x 3 x H x W images in [0, 1] as uint8 N x H x W x 3 pixels, rounded: undoes :func:`to_images`."""
    return (images.detach() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


@undisturbed()
def embed(
    victim: Victim,
    pixels: np.ndarray | Tensor,
    modality: Modality,
    edits: Edits | None = None,
    what: str = "clean images",
    batch: int = BATCH,
    quiet: bool = False,
) -> Embedded:
    """Embed N images (uint8 N x H x W x 3) of one modality, ``batch`` at a time for each process of the run.

    Fewer where memory is short.

    Raises :class:`VbenchError` naming victim and batch when an embedding is not finite.
    """

    def one(rows: slice) -> Embedded:
        output = victim(to_images(pixels[rows], victim).to(entrance(victim)), modality, edits)
        refuse_non_finite(output.embedding, victim, f"{what} {rows.start}-{rows.stop - 1}")
        return Embedded(output.embedding.float(), None if output.logits is None else output.logits.argmax(1))

    with frozen(victim), torch.no_grad():
        found = Portions(f"embedding {what}", batch * processes(), quiet).over(range(len(pixels)), one)
    predictions = [part.predictions for part in found if part.predictions is not None]
    embeddings = torch.cat([part.embeddings for part in found])
    return Embedded(embeddings, torch.cat(predictions) if predictions else None)


def refuse_non_finite(embedding: Tensor, victim: Victim, where: str) -> None:
    """Raise :class:`VbenchError` when any value of N x D embeddings is NaN or infinite."""
    bad = (~torch.isfinite(embedding)).any(1).sum().item()
    if bad:
        raise VbenchError(f"{victim.name}: {bad} of {len(embedding)} embeddings are not finite ({where})")
