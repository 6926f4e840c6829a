"""Applying an attack to one side of a ranking, under the eyes of the threat model."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from vbench.attacks.base import Attack
from vbench.attacks.perturbation import Perturbation
from vbench.crafting import Crafter, contained_edits
from vbench.embed import BATCH, look, to_images, to_pixels
from vbench.errors import VbenchError
from vbench.meter import Meter
from vbench.parallel.group import processes
from vbench.portions import Portions
from vbench.precision import take_float32
from vbench.progress import track
from vbench.sandbox import twin
from vbench.seeds import hashed
from vbench.similarity import PerturbationSize
from vbench.threat import ThreatModel
from vbench.types import Side
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

    Images are crafted on a copy of the victim of ``source`` (a surrogate's workbench over the same images),
    or of the one that is shown them, ``batch`` at a time for each process of the run, which must change
    nothing, and fewer where memory is short. They are shown to another copy, which the attack never held.
    ``size`` collects how large the changes are; ``keep`` holds all changed images in memory. Raises
    :class:`VbenchError` when the attack breaks its contract or the budget, or the victim its own.
    """
    source = source or bench
    attack, threat, who = plan.attack, plan.threat, f"attack '{plan.attack.name}'"
    victim, modality, pixels = twin(bench.victim), bench.modality(side), bench.pixels[side]
    crafted_on = victim if attack.universal else twin(source.victim)
    take_float32(victim)
    take_float32(crafted_on)
    crafter = Crafter(source, crafted_on, side, attack, threat, plan.perturbation)
    edits = contained_edits(who, plan.edits)
    embeddings: list[Tensor] = []
    images: list[np.ndarray] = []
    meters: list[Meter] = []
    batch *= processes()
    portions = Portions(f"{attack.name} on {side.value} images", batch, quiet)

    def one(rows: slice) -> Tensor:
        clean, seeds = to_images(pixels[rows], victim), image_seeds(plan.seed, side, rows)
        adversarial, meter = crafter.craft(clean, rows, seeds)
        shown = _enforced(threat, clean, adversarial, attack)
        where = f"{who}, {side.value} images {rows.start}-{rows.stop - 1}"
        with frozen(victim), torch.no_grad():
            found = look(victim, shown, modality, seeds, where, edits)
        # Only now that nothing can fail any more and be done again.
        size.add(clean, shown, threat.spent(clean, adversarial))
        meters.append(meter)
        if keep:
            images.append(to_pixels(shown))
        return found.embeddings

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
