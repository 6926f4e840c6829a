"""Applying an attack to one side of a ranking, under the eyes of the threat model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from vbench.attacks.base import Attack, Context, Gallery, PerImageAttack
from vbench.attacks.perturbation import Perturbation
from vbench.embed import BATCH, refuse_non_finite, to_images, to_pixels
from vbench.errors import VbenchError
from vbench.meter import Meter
from vbench.parallel.group import processes
from vbench.portions import Portions
from vbench.progress import track
from vbench.seeds import hashed
from vbench.similarity import PerturbationSize
from vbench.threat import ThreatModel
from vbench.types import Modality, Side
from vbench.victims.base import Edits, frozen
from vbench.workbench import Workbench

#: Below so many seeds of runs and images of a side, image seeds differ in the 32 bits that torch's generators
#: take in. Beyond, they are hashes, which no two images share but by chance.
_PLAIN_SEEDS, _PLAIN_IMAGES = 2000, 500_000


@dataclass
class Assaulted:
    """``embeddings``: N x D of the adversarial images of one side; with what crafting them cost.

    ``queries``: forward passes of an attack that sees nothing but embeddings, 0 for any other. ``images``:
    uint8 N x H x W x 3, as the victim was shown them, where they were asked for.
    """

    embeddings: Tensor
    evaluations: int
    queries: int
    seconds: float
    peak_memory: int
    images: np.ndarray | None = None


@dataclass(frozen=True)
class Plan:
    """What is done to the images of a side.

    Universal attacks apply ``perturbation``; ``edits`` are the attacker's feature edits on that side.
    """

    attack: Attack
    threat: ThreatModel
    seed: int
    perturbation: Perturbation | None = None
    edits: Edits = field(default_factory=dict)


def assault(
    bench: Workbench,
    side: Side,
    plan: Plan,
    size: PerturbationSize,
    source: Workbench | None = None,
    quiet: bool = False,
    batch: int = BATCH,
    keep: bool = False,
) -> Assaulted:
    """Craft, enforce the budget, check it, and embed every image of one side.

    Images are crafted on the victim of ``source`` (a surrogate's workbench over the same images), or on the
    one that is shown them, ``batch`` at a time for each process of the run, which must change nothing, and
    fewer where memory is short. ``size`` collects how large the changes are; ``keep`` holds all changed
    images in memory. Raises :class:`VbenchError` when the attack breaks the budget or yields non-finite
    pixels, or the victim non-finite embeddings.
    """
    source = source or bench
    attack, threat = plan.attack, plan.threat
    victim, modality, pixels = bench.victim, bench.modality(side), bench.pixels[side]
    embeddings: list[Tensor] = []
    images: list[np.ndarray] = []
    meters: list[Meter] = []
    prototypes = {}
    if not attack.universal and "training" in attack.knowledge:
        prototypes = {modality: source.training.prototypes(modality) for modality in Modality}
    batch *= processes()
    portions = Portions(f"{attack.name} on {side.value} images", batch, quiet)

    def one(rows: slice) -> Tensor:
        clean = to_images(pixels[rows], victim)
        with Meter(source.victim) as meter:
            adversarial = _craft(source, side, plan, prototypes, clean, rows)
        shown = _enforced(threat, clean, adversarial, attack)
        with frozen(victim), torch.no_grad():
            embedding = victim(shown, modality, plan.edits).embedding
        refuse_non_finite(
            embedding, victim, f"attack {attack.name}, {side.value} images {rows.start}-{rows.stop - 1}"
        )
        # Only now that nothing can fail any more and be done again.
        size.add(clean, shown, threat.spent(clean, adversarial))
        meters.append(meter)
        if keep:
            images.append(to_pixels(shown))
        return embedding.float()

    for start in track(range(0, len(pixels), batch), portions.what, quiet=quiet):
        embeddings += portions.over(range(start, min(start + batch, len(pixels))), one)
    return Assaulted(
        torch.cat(embeddings),
        sum(meter.evaluations for meter in meters),
        sum(meter.forwards for meter in meters) if attack.needs == {"embeddings"} else 0,
        sum(meter.seconds for meter in meters),
        max((meter.peak_memory for meter in meters), default=0),
        np.concatenate(images) if keep else None,
    )


def _craft(
    source: Workbench,
    side: Side,
    plan: Plan,
    prototypes: Mapping[Modality, Tensor],
    clean: Tensor,
    rows: slice,
) -> Tensor:
    attack = plan.attack
    if not isinstance(attack, PerImageAttack):
        if plan.perturbation is None:
            raise VbenchError(f"attack '{attack.name}' is universal and has no perturbation to apply")
        return plan.perturbation.apply(clean)
    known = source.clean[side]
    context = Context(
        plan.threat,
        image_seeds(plan.seed, side, rows),
        known.embeddings[rows].to(clean),
        prototypes,
        _gallery(source, side, rows) if "gallery" in attack.knowledge else None,
        known.predictions[rows] if known.predictions is not None else None,
    )
    return attack.perturb(source.victim, clean, source.modality(side), context)


def _gallery(bench: Workbench, side: Side, rows: slice) -> Gallery:
    other = Side.GALLERY if side is Side.QUERY else Side.QUERY
    found = bench.clean[other].embeddings
    return Gallery(found, bench.ids(other).to(found.device), bench.ids(side)[rows].to(found.device))


def _enforced(threat: ThreatModel, clean: Tensor, adversarial: Tensor, attack: Attack) -> Tensor:
    try:
        shown = threat.enforce(clean, adversarial)
        threat.check(clean, shown)
    except VbenchError as error:
        raise VbenchError(f"attack '{attack.name}': {error}") from error
    return shown


def image_seeds(seed: int, side: Side, rows: slice) -> tuple[int, ...]:
    """A seed for every image, from the run's seed, the side and the image's position there."""
    return tuple(_image_seed(seed, side, row) for row in range(rows.start, rows.stop))


def _image_seed(seed: int, side: Side, row: int) -> int:
    if seed < _PLAIN_SEEDS and row < _PLAIN_IMAGES:
        base = seed * 1_000_003 + (0 if side is Side.QUERY else 500_009)
        return base * 2_000_003 + row
    return hashed(f"image/{seed}/{side.value}/{row}")
