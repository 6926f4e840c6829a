"""Do adversarial images survive being saved, and do they keep the budget as saved?"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from vbench.audit.check import Finding, Probe, Unmeasured, Verdict
from vbench.audit.evidence import Evidence, Outcome
from vbench.audit.forward import drift, rounding
from vbench.audit.strength import BLACK_BOX, NOISE, STRONG
from vbench.data.base import Sample
from vbench.data.images import load_images
from vbench.embed import embed
from vbench.types import Side


def saved_and_read(evidence: Evidence, pixels: np.ndarray) -> np.ndarray:
    """N x H x W x 3 uint8 images as they come back from PNG files through the loader of data sets."""
    modality = evidence.bench.modality(Side.QUERY)
    with tempfile.TemporaryDirectory(prefix="vbench-audit-") as name:
        folder = Path(name)
        samples = []
        for index, image in enumerate(pixels):
            sample = Sample(f"{index:06d}.png", 0, 0, modality)
            Image.fromarray(image).save(folder / sample.path)
            samples.append(sample)
        victim = evidence.victim
        return load_images(samples, folder, victim.input_size, victim.resize_filter, quiet=True)


def _any_of(evidence: Evidence, specs: Sequence[str]) -> tuple[str, Outcome]:
    """The first of the attacks that runs on this victim."""
    for spec in specs:
        with suppress(Unmeasured):
            return spec, evidence.attacked(spec)
    raise Unmeasured("no attack of this audit runs")


def _saved(evidence: Evidence) -> Finding:
    spec, attacked = _any_of(evidence, (STRONG, BLACK_BOX, NOISE))
    back = saved_and_read(evidence, attacked.shown)
    victim, modality = evidence.victim, evidence.bench.modality(Side.QUERY)
    moved = drift(embed(victim, back, modality).embeddings, attacked.embeddings)
    limit = rounding(victim, evidence)
    changed = float((back != attacked.shown).mean())
    figures = {"changed_values": changed, "drift": moved, "rounding": limit}
    text = (
        f"{len(back)} images of {spec} written to PNG and read back: {changed:.1%} of values differ, an "
        f"embedding moves by {moved:.1e} of its length"
    )
    return Finding(Verdict.PASS if not changed and moved <= limit else Verdict.FAIL, text, figures)


def _budget(evidence: Evidence) -> Finding:
    clean = np.asarray(evidence.bench.pixels[Side.QUERY]).astype(np.int16)
    broken, figures = [], {}
    outcomes = list(evidence.outcomes())
    if not outcomes:
        raise Unmeasured("no attack of this audit runs")
    for spec, threat, outcome in outcomes:
        allowed = int(threat.eps * 255)
        largest = int(np.abs(outcome.shown.astype(np.int16) - clean).max())
        figures[f"{spec} at {allowed}"] = float(largest)
        if largest > allowed:
            broken.append(f"{spec} moves a pixel by {largest} levels, allowed {allowed}")
    if broken:
        return Finding(Verdict.FAIL, "; ".join(broken), figures)
    text = f"{len(outcomes)} attacks of this audit, no pixel further than its budget in whole 8-bit levels"
    return Finding(Verdict.PASS, text, figures)


PROBES = (
    Probe(
        "saved as PNG",
        "a broken budget: what was evaluated lies between 8-bit levels and cannot be stored or sent",
        "round to 8 bits before evaluating (the default of vbench run)",
        _saved,
    ),
    Probe(
        "budget",
        "a broken budget: the attacker was given more than the table says",
        "hold images to the budget after rounding, in integers",
        _budget,
    ),
)
