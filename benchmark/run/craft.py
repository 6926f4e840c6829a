"""Attack the images of one side: craft, enforce the budget, embed, measure the cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vbench.attacks.base import AnyEdits, Attack, Context, Gallery, PerImageAttack, edits_of
from vbench.attacks.perturbation import Perturbation
from vbench.attacks.returned import own_images
from vbench.core.environment import resident_peak
from vbench.core.errors import VbenchError
from vbench.core.isolation import contained, twin
from vbench.core.processes import Batches, processes
from vbench.core.seeds import hashed
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality, Side
from vbench.metrics.change import PerturbationSize
from vbench.run.bench import Bench
from vbench.victims.base import Edits, Victim, VictimOutput, example_tensor, frozen
from vbench.victims.embed import batch_of, embed_batch, to_images, to_pixels
from vbench.victims.precision import take_float32


@dataclass
class Meter:
    """Measures cost while its ``with`` block runs; a block that ends in an error adds only its time.

    ``evaluations``: images passed through the victim with gradients on; ``forwards``: without. An image that
    an edit turns into k feature maps counts k times. ``seconds``: wall clock. ``peak_memory``, bytes: on a
    GPU the peak of tensor memory inside the block, beyond that at its start; on a CPU, where torch does not
    count tensors, the peak resident memory of the whole process.
    """

    victim: nn.Module
    evaluations: int = 0
    forwards: int = 0
    seconds: float = 0.0
    peak_memory: int = 0
    _handle: Any = field(default=None, repr=False)
    _started: float = field(default=0.0, repr=False)
    _before: tuple[int, int] = field(default=(0, 0), repr=False)
    _held: int = field(default=0, repr=False)
    _sampling: ExitStack = field(default_factory=ExitStack, repr=False)
    _sampled: list[int] = field(default_factory=list, repr=False)

    def __enter__(self) -> Meter:
        self._handle = self.victim.register_forward_hook(self._count)
        self._before = self.evaluations, self.forwards
        device = example_tensor(self.victim).device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self._held = torch.cuda.memory_allocated(device)
        else:
            self._sampled = self._sampling.enter_context(resident_peak())
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.remove()
        device = example_tensor(self.victim).device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.seconds += time.perf_counter() - self._started
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(device) - self._held
        else:
            self._sampling.close()
            peak = self._sampled[0]
        self.peak_memory = max(self.peak_memory, peak)
        if error is not None:
            self.evaluations, self.forwards = self._before

    def _count(self, module: nn.Module, inputs: tuple[Any, ...], output: VictimOutput) -> None:
        if torch.is_grad_enabled():
            self.evaluations += len(output.embedding)
        else:
            self.forwards += len(output.embedding)


@dataclass(frozen=True)
class Plan:
    """How the images of a side are attacked.

    Universal attacks apply ``perturbation``; ``edits`` are the attacker's feature edits on that side.
    """

    attack: Attack
    threat: ThreatModel
    seed: int
    perturbation: Perturbation | None = None
    edits: AnyEdits = field(default_factory=dict)


class Crafter:
    """Changes images of one side with one attack, on ``victim``, a copy of ``source``'s victim."""

    def __init__(self, source: Bench, victim: Victim, side: Side, plan: Plan) -> None:
        self._source = source
        self._victim = victim
        self._side = side
        self._attack = plan.attack
        self._threat = plan.threat
        self._perturbation = plan.perturbation
        self._uses_random_state = False

    def craft(self, images: Tensor, rows: slice, seeds: tuple[int, ...]) -> tuple[Tensor, list[Meter]]:
        """Adversarial versions of ``images`` (N x 3 x H x W, those of ``rows``), and their cost.

        Global random state starts from the first image's seed. An attack that uses it gets each image alone,
        so that its random numbers do not depend on the batch.
        """
        attack, modality = self._attack, self._source.modality(self._side)
        who = f"attack '{attack.name}'"
        if not isinstance(attack, PerImageAttack):
            if self._perturbation is None:
                raise VbenchError(f"{who} is universal and has no perturbation to apply")
            with Meter(self._victim) as meter:
                return self._perturbation.apply(images, modality), [meter]
        found: dict[int, tuple[Tensor, Meter]] = {}
        for part in self._parts(len(images)):
            own, known = images[part], slice(rows.start + part.start, rows.start + part.stop)
            context = self._context(own, known, seeds[part])
            with (
                contained(who, context.seeds[0]) as ran,
                Meter(self._victim) as meter,
                frozen(self._victim),
                torch.enable_grad(),
            ):
                returned = attack.craft(self._victim, own.clone(), modality, context)
            self._uses_random_state |= ran.drew
            found[part.start] = own_images(who, returned, own), meter
        return torch.cat([made for made, _ in found.values()]), [meter for _, meter in found.values()]

    def _parts(self, count: int) -> Iterator[slice]:
        """All images of a batch together, then each alone if the attack turns out to use random state."""
        together = not self._uses_random_state
        if together:
            yield slice(0, count)
        if self._uses_random_state and not (together and count == 1):
            yield from (slice(row, row + 1) for row in range(count))

    def _context(self, images: Tensor, rows: slice, seeds: tuple[int, ...]) -> Context:
        known = self._source.clean[self._side]
        return Context(
            replace(self._threat),
            seeds,
            known.embeddings[rows].to(images, copy=True),
            {modality: one.clone() for modality, one in self._prototypes.items()},
            self._gallery(rows) if "gallery" in self._attack.knowledge else None,
            known.predictions[rows].clone() if known.predictions is not None else None,
        )

    @cached_property
    def _prototypes(self) -> dict[Modality, Tensor]:
        return dict(self._source.prototypes()) if "training" in self._attack.knowledge else {}

    def _gallery(self, rows: slice) -> Gallery:
        other = Side.GALLERY if self._side is Side.QUERY else Side.QUERY
        found = self._source.clean[other].embeddings.clone()
        ids, query_ids = self._source.ids(other), self._source.ids(self._side)[rows]
        return Gallery(found, ids.to(found.device, copy=True), query_ids.to(found.device, copy=True))


def contained_edits(who: str, edits: Edits) -> Edits:
    """Edits that get a copy of each feature map, and whose errors name ``who``."""

    def contain(edit: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def edited(features: Tensor) -> Tensor:
            with contained(who):
                found = edit(features.clone())
            if not isinstance(found, Tensor):
                raise VbenchError(f"{who}: an edit must return a feature map, not a {type(found).__name__}")
            return found

        return edited

    return {stage: contain(edit) for stage, edit in edits.items()}


#: Below these limits (run seed, images per side) image seeds differ in the 32 bits that torch's generators
#: use. Beyond, they are 63-bit hashes.
_PLAIN_SEEDS, _PLAIN_IMAGES = 2000, 500_000


@dataclass
class Attacked:
    """``embeddings``: N x D of the adversarial images of one side; and the cost of crafting them.

    ``queries``: forward passes of an attack that uses only embeddings, 0 for others. ``images``: uint8
    N x H x W x 3, as the victim was shown them, if requested.
    """

    embeddings: Tensor
    evaluations: int
    queries: int
    seconds: float
    peak_memory: int
    images: np.ndarray | None = None


def craft_side(
    bench: Bench,
    side: Side,
    plan: Plan,
    size: PerturbationSize,
    source: Bench | None = None,
    quiet: bool = False,
    batch: int | None = None,
    keep: bool = False,
) -> Attacked:
    """Craft, enforce the budget, check it, and embed every image of one side.

    Images are crafted on a copy of the victim of ``source`` (a surrogate's bench over the same images), or of
    ``bench`` if None, and embedded by another copy, to which the attack has no access. ``batch``: images per
    process, the bench's if None; the result does not depend on it, and it is halved on out-of-memory.
    ``size`` collects the perturbation sizes; ``keep`` returns all adversarial images. Raises
    :class:`VbenchError` if the attack breaks its contract or the budget, or the victim its contract.
    """
    source = source or bench
    attack, threat, who = plan.attack, plan.threat, f"attack '{plan.attack.name}'"
    victim, modality, pixels = twin(bench.victim), bench.modality(side), bench.pixels[side]
    crafted_on = victim if attack.universal else twin(source.victim)
    take_float32(victim)
    take_float32(crafted_on)
    crafter = Crafter(source, crafted_on, side, plan)
    edits = contained_edits(who, edits_of(plan.edits, modality))
    embeddings: list[Tensor] = []
    images: list[np.ndarray] = []
    meters: list[Meter] = []
    most = (batch or bench.batch or batch_of(crafted_on)) * processes()
    batches = Batches(f"{attack.name} on {side.value} images", most, quiet)
    # Around all batches, so that what each of them restores is saved once.
    with frozen(victim), frozen(crafted_on):
        for rows in batches.tracked(len(pixels)):
            with batches.retried():
                clean, seeds = to_images(pixels[rows], victim), image_seeds(plan.seed, side, rows)
                adversarial, spent = crafter.craft(clean, rows, seeds)
                shown = _enforced(threat, clean, adversarial, attack)
                where = f"{who}, {side.value} images {rows.start}-{rows.stop - 1}"
                with frozen(victim), torch.no_grad():
                    found = embed_batch(victim, shown, modality, seeds, where, edits)
                # Last, because a batch that runs out of memory is retried.
                size.add(clean, shown, threat.spent(clean, adversarial))
                embeddings.append(found.embeddings)
                meters += spent
                if keep:
                    images.append(to_pixels(shown))
    return Attacked(
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
    """A seed per image, from the run's seed, the side and the image's position in it."""
    return tuple(_image_seed(seed, side, row) for row in range(rows.start, rows.stop))


def _image_seed(seed: int, side: Side, row: int) -> int:
    if seed < _PLAIN_SEEDS and row < _PLAIN_IMAGES:
        base = seed * 1_000_003 + (0 if side is Side.QUERY else 500_009)
        return base * 2_000_003 + row
    return hashed(f"image/{seed}/{side.value}/{row}")
