"""Is the victim a fixed function of one image? Without an attack."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from vbench.audit.check import Finding, Probe, Unmeasured, Verdict
from vbench.audit.evidence import Evidence
from vbench.embed import embed, to_images
from vbench.errors import VbenchError
from vbench.precision import entrance
from vbench.types import Side
from vbench.victims.base import Victim, example_tensor, frozen

SIDES = (Side.QUERY, Side.GALLERY)
#: Images of a side that are looked at, evenly spread.
_SAMPLE = 16
#: Two computations round apart by their two errors at most; the other half is for kernels that round
#: differently than those of the batch that was measured.
_ROUNDINGS = 4


def sample(evidence: Evidence, side: Side) -> np.ndarray:
    """A few images of a side, uint8 N x H x W x 3."""
    pixels = evidence.bench.pixels[side]
    rows = np.linspace(0, len(pixels), min(_SAMPLE, len(pixels)), endpoint=False).astype(np.int64)
    return np.asarray(pixels[rows])


def drift(found: Tensor, reference: Tensor) -> float:
    """Largest distance between rows of two N x D matrices, in lengths of the reference."""
    gap = (found.double() - reference.double()).norm(dim=1)
    length = reference.double().norm(dim=1).clamp_min(torch.finfo(torch.float64).tiny)
    return (gap / length).max().item()


def rounding(victim: Victim, evidence: Evidence) -> float:
    """What the victim's own arithmetic may change about an embedding, in its length.

    The error is measured, not guessed: embeddings in float32 against the same in float64, scaled to the
    victim's precision. Where a copy in another precision does not run, half of the digits.
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
    # Half of the digits: more than any kernel that adds in changing order loses.
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
        # In its own type: images of another would be converted first, and it would write to a copy.
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
    shown = ", ".join(touched[:3]) + (f" and {len(touched) - 3} more" if len(touched) > 3 else "")
    return Finding(Verdict.FAIL, f"a forward pass changes: {shown}", figures)


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
)
