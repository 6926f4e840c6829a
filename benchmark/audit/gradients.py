"""Do gradients with respect to pixels exist, and do they say how to move an embedding?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from vbench.attacks.base import Context
from vbench.attacks.metric import MetricIFGSM
from vbench.attacks.steps import Objective, input_gradient
from vbench.audit.check import Finding, Probe, Unmeasured, Verdict
from vbench.audit.evidence import Evidence
from vbench.audit.forward import rounding
from vbench.audit.statistics import half_width
from vbench.errors import VbenchError
from vbench.types import Side
from vbench.victims.base import frozen


def _gradients(evidence: Evidence) -> Iterator[tuple[Context, Objective, Tensor, Tensor]]:
    """Context, objective, start and gradient there, of every batch: where ``metric_ifgsm`` begins."""
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
        """Which images' embeddings move under the largest change that these values can make."""
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
    # What is less than one query in all of them cannot be seen in their Rank-1.
    verdict = Verdict.PASS if worst < 1 / len(norms) else Verdict.WARN
    return Finding(Verdict.FAIL if worst > half_width(len(norms)) else verdict, text, figures)


def _informative(evidence: Evidence) -> Finding:
    """One 8-bit level along the gradient's sign against one level along random signs."""
    ahead, astray = [], []
    with frozen(evidence.victim):
        for context, objective, start, gradient in _gradients(evidence):
            signs = context.uniform(start).sign()
            with torch.no_grad():
                here = objective(start)
                for found, way in ((ahead, gradient.sign()), (astray, signs)):
                    found.append(objective((start + way / 255).clamp(0, 1)) - here)
    along, random = (torch.cat(found).double().cpu().numpy() for found in (ahead, astray))
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
