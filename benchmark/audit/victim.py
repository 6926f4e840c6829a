"""Checks of a victim's forward pass and its gradient."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from vbench.attacks.base import Context
from vbench.attacks.metric import MetricIFGSM
from vbench.attacks.steps import Objective, input_gradient
from vbench.audit.evidence import Evidence
from vbench.audit.record import Finding, Probe, Unmeasured, Verdict
from vbench.core.errors import VbenchError
from vbench.core.text import first_of
from vbench.core.types import Side
from vbench.metrics.statistics import half_width
from vbench.victims.base import Victim, example_tensor, frozen
from vbench.victims.embed import embed, to_images
from vbench.victims.precision import entrance

SIDES = (Side.QUERY, Side.GALLERY)

#: Number of images of a side that are checked, evenly spread.
_SAMPLE = 16

#: Factor on the measured rounding error: 2, because two computations may err in opposite directions, times 2
#: for kernels that round differently than those that were measured.
_ROUNDINGS = 4


def sample(evidence: Evidence, side: Side) -> np.ndarray:
    """A few images of a side, uint8 N x H x W x 3."""
    pixels = evidence.bench.pixels[side]
    rows = np.linspace(0, len(pixels), min(_SAMPLE, len(pixels)), endpoint=False).astype(np.int64)
    return np.asarray(pixels[rows])


def drift(found: Tensor, reference: Tensor) -> float:
    """Largest distance between rows of two N x D matrices, relative to the length of the reference row."""
    gap = (found.double() - reference.double()).norm(dim=1)
    length = reference.double().norm(dim=1).clamp_min(torch.finfo(torch.float64).tiny)
    return (gap / length).max().item()


def rounding(victim: Victim, evidence: Evidence) -> float:
    """Largest change of an embedding by rounding in the victim's arithmetic, relative to its length.

    Measured as the difference between embeddings in float32 and in float64, scaled to the victim's precision;
    half of the digits if a copy in another precision does not run.
    """
    precision = torch.finfo(example_tensor(victim).dtype).eps
    try:
        errors = [_error_in_float32(victim, evidence, side) for side in SIDES]
    except (RuntimeError, TypeError):
        return precision**0.5
    return _ROUNDINGS * max(errors) * precision / torch.finfo(torch.float32).eps


def _error_in_float32(victim: Victim, evidence: Evidence, side: Side) -> float:
    found = []
    for dtype in (torch.float32, torch.float64):
        twin = copy.deepcopy(victim).to(dtype)
        with frozen(twin), torch.no_grad():
            images = to_images(sample(evidence, side), twin).to(dtype)
            output = twin(images, evidence.bench.modality(side))
        found.append(output.embedding)
    return max(drift(*found), torch.finfo(torch.float32).eps)


def _twice(evidence: Evidence, side: Side) -> float:
    victim, modality = evidence.victim, evidence.bench.modality(side)
    images = to_images(sample(evidence, side), victim)
    with frozen(victim), torch.no_grad():
        first, second = (victim(images.clone(), modality).embedding for _ in range(2))
    return drift(second, first)


def _repeatable(evidence: Evidence) -> Finding:
    found = max(_twice(evidence, side) for side in SIDES)
    figures = {"drift": found}
    if found == 0:
        return Finding(Verdict.PASS, "the same batch twice gives the same bits", figures)
    # Half of the digits: more than summation in varying order can lose.
    digits = torch.finfo(example_tensor(evidence.victim).dtype).eps ** 0.5
    verdict = Verdict.WARN if found <= digits else Verdict.FAIL
    return Finding(verdict, f"the same batch twice moves an embedding by {found:.1e} of its length", figures)


def _state(victim: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in victim.state_dict().items()} | {
        name: value.detach().clone() for name, value in victim.named_buffers()
    }


def _untouched(evidence: Evidence) -> Finding:
    victim, touched = evidence.victim, []
    for side in SIDES:
        # In the victim's dtype: other images would be converted first, and a victim would write to the copy.
        images = to_images(sample(evidence, side), victim).to(entrance(victim))
        with frozen(victim), torch.no_grad():
            before, given = _state(victim), images.clone()
            victim(given, evidence.bench.modality(side))
            after = _state(victim)
            training = [name or "the victim" for name, module in victim.named_modules() if module.training]
        if not torch.equal(given, images):
            touched.append("its input")
        changed = [name for name, value in before.items() if not _equal(value, after[name])]
        touched += [f"'{name}'" for name in changed]
        touched += [f"{name} stays in training mode" for name in training]
    touched = list(dict.fromkeys(touched))
    figures = {"touched": float(len(touched))}
    if not touched:
        return Finding(Verdict.PASS, "input, weights, statistics and modes as before a forward pass", figures)
    return Finding(Verdict.FAIL, f"a forward pass changes: {first_of(touched, 3)}", figures)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def _alone(evidence: Evidence) -> Finding:
    victim, worst = evidence.victim, 0.0
    limit = rounding(victim, evidence)
    repeated = max(_twice(evidence, side) for side in SIDES)
    try:
        for side in SIDES:
            pixels, modality = sample(evidence, side), evidence.bench.modality(side)
            together = embed(victim, pixels, modality).embeddings
            alone = embed(victim, pixels, modality, batch=1).embeddings
            mixed = embed(victim, pixels[::-1], modality, batch=5).embeddings.flip(0)
            worst = max(worst, drift(alone, together), drift(mixed, together))
    except (VbenchError, RuntimeError, ValueError) as error:
        raise Unmeasured(f"a batch of another size stops with: {str(error).splitlines()[0]}") from error
    figures = {"drift": worst, "rounding": limit, "drift_of_repetition": repeated}
    if repeated > limit or repeated > 1e-3:
        text = f"cannot be told: the same batch twice already moves an embedding by {repeated:.1e}"
        return Finding(Verdict.FAIL, text, figures)
    text = f"alone or among others, an embedding moves by {worst:.1e} of its length (rounding {limit:.1e})"
    return Finding(Verdict.PASS if worst <= limit else Verdict.FAIL, text, figures)


def _gradients(evidence: Evidence) -> Iterator[tuple[Context, Objective, Tensor, Tensor]]:
    """For every batch: context, objective, starting images of ``metric_ifgsm``, and the gradient at them."""
    attack, victim = MetricIFGSM(), evidence.victim
    modality = evidence.bench.modality(Side.QUERY)
    for images, context in evidence.batches():
        objective = attack.objective(victim, modality, context)
        start = attack.start(images, context)
        try:
            yield context, objective, start, input_gradient(objective, start)
        except torch.cuda.OutOfMemoryError:
            raise
        except (VbenchError, RuntimeError) as error:
            raise Unmeasured(
                f"no gradient with respect to the image: {str(error).splitlines()[0]}"
            ) from error


def _present(evidence: Evidence) -> Finding:
    victim, modality = evidence.victim, evidence.bench.modality(Side.QUERY)
    limit = rounding(victim, evidence)

    def moves(start: Tensor, values: Tensor) -> Tensor:
        """Which embeddings change if the marked values are changed to 1 minus their value."""
        with torch.no_grad():
            before = victim(start, modality).embedding
            after = victim(torch.where(values, 1 - start, start), modality).embedding
        return (after - before).norm(dim=1) > limit * before.norm(dim=1)

    with frozen(victim):
        batches = [(start, gradient) for _, _, start, gradient in _gradients(evidence)]
        never = torch.stack([(gradient == 0).all(0) for _, gradient in batches]).all(0)
        if any(bool(moves(start, never).any()) for start, _ in batches):
            unread = torch.zeros_like(never)
        else:
            unread = never
        blind = []
        for start, gradient in batches:
            dead = (gradient == 0) & ~unread
            share = dead.flatten(1).double().mean(1) / (~unread).double().mean().clamp_min(1e-12)
            blind.append(torch.where(moves(start, dead), share, 0.0))
    norms = torch.cat([gradient.flatten(1).norm(dim=1) for _, gradient in batches]).double()
    figures = {
        "median_norm": norms.median().item(),
        "least_norm": norms.min().item(),
        "zero_images": (norms == 0).double().mean().item(),
        "blind_values": torch.cat(blind).mean().item(),
        "unread_values": unread.double().mean().item(),
    }
    text = (
        f"median norm {figures['median_norm']:.1e}, least {figures['least_norm']:.1e}; zero for "
        f"{figures['zero_images']:.1%} of images and {figures['blind_values']:.2%} of the values that matter"
    )
    if figures["unread_values"]:
        text += f"; {figures['unread_values']:.1%} of values are read in no image"
    worst = max(figures["zero_images"], figures["blind_values"])
    # A share below one query cannot change Rank-1.
    verdict = Verdict.PASS if worst < 1 / len(norms) else Verdict.WARN
    return Finding(Verdict.FAIL if worst > half_width(len(norms)) else verdict, text, figures)


def _informative(evidence: Evidence) -> Finding:
    """Compare a step of one 8-bit level along the gradient's sign with one along random signs."""
    along_changes: list[Tensor] = []
    random_changes: list[Tensor] = []
    with frozen(evidence.victim):
        for context, objective, start, gradient in _gradients(evidence):
            signs = context.uniform(start).sign()
            with torch.no_grad():
                here = objective(start)
                for changes, step in ((along_changes, gradient.sign()), (random_changes, signs)):
                    changes.append(objective((start + step / 255).clamp(0, 1)) - here)
    along, random = (torch.cat(one).double().cpu().numpy() for one in (along_changes, random_changes))
    compared = evidence.compare(random, along)
    figures = {
        "along_gradient": float(along.mean()),
        "along_random_signs": float(random.mean()),
        "noise": compared.noise,
        "images": float(np.mean(along > random)),
    }
    text = (
        f"one level along the gradient raises the distance by {figures['along_gradient']:.1e}, along random "
        f"signs by {figures['along_random_signs']:.1e} (noise {compared.noise:.1e}); more for "
        f"{figures['images']:.0%} of images"
    )
    return Finding(Verdict.PASS if compared.higher else Verdict.FAIL, text, figures)


PROBES = (
    Probe(
        "same batch twice",
        "a randomised model: one run is one draw, and gradients are noisy",
        "turn the randomness off, or attack its expectation (EOT) and report many draws",
        _repeatable,
    ),
    Probe(
        "frozen",
        "batch norm, dropout or weights still move: results depend on what was shown before",
        "make the forward pass leave input, buffers and training flags alone",
        _untouched,
    ),
    Probe(
        "batch and order",
        "batch statistics: an image is embedded by the company it keeps, and so is an attack",
        "use running statistics in evaluation; rank and attack again",
        _alone,
    ),
    Probe(
        "gradient",
        "gradient masking: pixels count, and no gradient says so; white-box results mean nothing",
        "find the quantised, saturated or non-differentiable step; attack through a smooth stand-in (BPDA) "
        "or without gradients",
        _present,
    ),
    Probe(
        "gradient direction",
        "gradient masking: the gradient is there and points nowhere (shattered or noisy)",
        "attack through a smooth stand-in (BPDA), average gradients over draws (EOT), or without gradients",
        _informative,
    ),
)
