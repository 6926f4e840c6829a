"""Checks of attack strength, of growing budgets, and of stored images."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from vbench.audit.evidence import Evidence, Outcome, rank1
from vbench.audit.record import Finding, Probe, Unmeasured, Verdict
from vbench.audit.victim import drift, rounding
from vbench.core.types import Side
from vbench.data.base import Sample
from vbench.data.images import load_images
from vbench.metrics.statistics import Comparison
from vbench.victims.embed import BATCH, embed

NOISE = "noise[kind=sign]"

ONE_STEP = "metric_fgsm"

#: Ten steps from a random start in half the budget: cheap, and weak enough that more steps or restarts can
#: show.
MANY_STEPS = "metric_ifgsm[preset=v1]"

MORE_STEPS = "metric_ifgsm[preset=v1,steps=30]"

RESTARTS = "metric_ifgsm[preset=v1,restarts=3]"

STRONG = "sma[preset=v1]"

#: With few queries, squares must be large: the paper's p = 0.05 is for 10,000 queries.
BLACK_BOX = "square[queries=300,p=0.8]"

#: White-box attacks, in the order of their cost.
WHITE_BOX = (ONE_STEP, MANY_STEPS, STRONG, MORE_STEPS, RESTARTS)

#: A batch size that divides neither a run's nor any usual number of queries.
_ODD_BATCH = 13


def _compared(evidence: Evidence, first: str, second: str, decisions: int = 1) -> tuple[Comparison, str]:
    """Compare the Rank-1 of two attacks on the same queries; with a sentence about it."""
    one, other = evidence.attacked(first), evidence.attacked(second)
    compared = evidence.compare(one.hits, other.hits, decisions)
    words = f"Rank-1 {100 * one.rank1:.1f} under {first}, {100 * other.rank1:.1f} under {second} ({compared})"
    return compared, words


def _figures(compared: Comparison, evidence: Evidence, first: str, second: str) -> dict[str, float]:
    return {
        "first": evidence.attacked(first).rank1,
        "second": evidence.attacked(second).rank1,
        "difference": compared.difference,
        "noise": compared.noise,
    }


def _distances(evidence: Evidence, first: str, second: str) -> tuple[Comparison, str, dict[str, float]]:
    """Compare how far two attacks move embeddings, which needs far fewer queries than comparing Rank-1."""
    near, far = (evidence.moved(evidence.attacked(spec)) for spec in (first, second))
    compared = evidence.compare(near, far)
    figures = {
        "first_distance": float(near.mean()),
        "second_distance": float(far.mean()),
        "distance_noise": compared.noise,
    }
    return compared, f"; distances moved {near.mean():.3f} and {far.mean():.3f}", figures


def _stronger(evidence: Evidence, weak: str, strong: str) -> tuple[bool, Finding]:
    """Whether the second moves embeddings farther, and the finding by Rank-1, a warning if undecided."""
    compared, words = _compared(evidence, weak, strong, decisions=2)
    farther, more, distances = _distances(evidence, weak, strong)
    verdict = Verdict.FAIL if compared.higher else Verdict.PASS if compared.lower else Verdict.WARN
    figures = _figures(compared, evidence, weak, strong) | distances
    return farther.higher, Finding(verdict, words + more, figures)


def _beats_noise(evidence: Evidence) -> Finding:
    """Fails if Rank-1 is higher, or embeddings move no further, than under noise; else warns if undecided."""
    farther, found = _stronger(evidence, NOISE, MANY_STEPS)
    if not farther:
        return replace(found, verdict=Verdict.FAIL)
    undecided = found.verdict is Verdict.WARN
    return replace(found, measured=found.measured + "; no difference of Rank-1 beyond noise" * undecided)


def _many_beat_one(evidence: Evidence) -> Finding:
    farther, found = _stronger(evidence, ONE_STEP, MANY_STEPS)
    if found.verdict is not Verdict.WARN:
        return found
    if farther:
        return replace(found, verdict=Verdict.PASS)
    return replace(found, measured=f"{found.measured}; no difference beyond noise")


def _never_weaker(evidence: Evidence, less: str, more: str) -> Finding:
    compared, words = _compared(evidence, less, more)
    verdict = Verdict.FAIL if compared.higher else Verdict.PASS
    return Finding(verdict, words, _figures(compared, evidence, less, more))


def _black_box(evidence: Evidence) -> Finding:
    """Compare by Rank-1, and by the distance moved, which does not depend on gallery and trial."""
    black = evidence.attacked(BLACK_BOX)
    white = _measured(evidence, WHITE_BOX)
    if not white:
        words = f"no white-box attack runs; Rank-1 {100 * black.rank1:.1f} under {BLACK_BOX}"
        return Finding(Verdict.FAIL, words, {"second": black.rank1})
    best = min(white, key=lambda spec: white[spec].rank1)
    farthest = max(white, key=lambda spec: evidence.moved(white[spec]).mean())
    ranked, words = _compared(evidence, best, BLACK_BOX)
    distance, _, distances = _distances(evidence, farthest, BLACK_BOX)
    force, _, _ = _distances(evidence, NOISE, BLACK_BOX)
    words += f"; distances moved {distances['first_distance']:.3f} under {farthest} and "
    words += f"{distances['second_distance']:.3f}"
    figures = _figures(ranked, evidence, best, BLACK_BOX) | distances
    if ranked.lower or distance.higher:
        return Finding(Verdict.FAIL, words, figures)
    if not force.higher:
        words += "; the black box is no stronger than noise and tells nothing"
        return Finding(Verdict.WARN, words, figures)
    return Finding(Verdict.PASS, words, figures)


def _measured(evidence: Evidence, specs: tuple[str, ...]) -> dict[str, Outcome]:
    """The outcomes of those attacks that run on this victim."""
    found = {}
    for spec in specs:
        with suppress(Unmeasured):
            found[spec] = evidence.attacked(spec)
    return found


def _batch_of_the_attack(evidence: Evidence) -> Finding:
    usual = evidence.attacked(MANY_STEPS)
    odd = evidence.attacked(MANY_STEPS, batch=_ODD_BATCH)
    compared = evidence.compare(usual.hits, odd.hits, decisions=2)
    changed = float((usual.shown != odd.shown).mean())
    words = (
        f"Rank-1 {100 * usual.rank1:.1f} under {MANY_STEPS} in batches of {BATCH}, {100 * odd.rank1:.1f} in "
        f"batches of {_ODD_BATCH} ({compared}); {changed:.1%} of pixel values differ"
    )
    figures = {
        "first": usual.rank1,
        "second": odd.rank1,
        "difference": compared.difference,
        "noise": compared.noise,
        "changed_values": changed,
    }
    verdict = Verdict.FAIL if compared.higher or compared.lower else Verdict.PASS
    return Finding(verdict, words, figures)


_MISLED = "gradient masking: the gradient leads away from what the victim does"

#: Budgets of the "growing budget" check, in 8-bit levels.
RUNGS = (4, 8, 16, 32, 64)


def _ladder(evidence: Evidence) -> Finding:
    rungs = {0: evidence.clean}
    for levels in RUNGS:
        rungs[levels] = evidence.attacked(STRONG, f"{levels}/255").hits
    figures = {f"rank1_at_{levels}": rank1(hits) for levels, hits in rungs.items()}
    chance, bound = evidence.bench.chance["r1"], evidence.chance_bound()
    figures |= {"chance": chance, "chance_bound": bound}
    text = f"Rank-1 under {STRONG} at " + ", ".join(
        f"{levels}: {100 * rank1(hits):.1f}" for levels, hits in rungs.items()
    )
    text += f" levels; chance {100 * chance:.1f}, up to {100 * bound:.1f} by luck"
    climbs = [
        f"it rises from {low} to {high} levels ({compared})"
        for low, high in pairwise(rungs)
        if (compared := evidence.compare(rungs[low], rungs[high])).higher
    ]
    whole = evidence.compare(rungs[0], rungs[RUNGS[-1]])
    reached = figures[f"rank1_at_{RUNGS[-1]}"] <= bound
    if not (whole.lower or reached):
        climbs.append(f"it does not fall beyond noise ({whole})")
    if climbs:
        return Finding(Verdict.FAIL, f"{text}; {'; '.join(climbs)}", figures)
    text += "" if reached else "; not down to chance"
    return Finding(Verdict.PASS if reached else Verdict.WARN, text, figures)


def saved_and_read(evidence: Evidence, pixels: np.ndarray) -> np.ndarray:
    """N x H x W x 3 uint8 images after writing them to PNG files and loading those as a data set."""
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
        "attack beats noise",
        "gradient masking: the attack moves embeddings no further than chance does, so it is none",
        "look at the lines on the gradient; where only Rank-1 is undecided, more --queries or a larger --eps",
        _beats_noise,
    ),
    Probe(
        "many steps beat one",
        f"{_MISLED} (Athalye et al. 2018)",
        "try smaller steps, smoothed gradients, and attacks without gradients",
        _many_beat_one,
    ),
    Probe(
        "more steps",
        f"{_MISLED}, or the step size does not fit",
        "compare step sizes; look at the lines on the gradient",
        lambda evidence: _never_weaker(evidence, MANY_STEPS, MORE_STEPS),
    ),
    Probe(
        "more restarts",
        "a randomised model, or a distance that says nothing about the ranking",
        "look at 'same batch twice'; compare the attack's distance with the one that ranks",
        lambda evidence: _never_weaker(evidence, MANY_STEPS, RESTARTS),
    ),
    Probe(
        "black box",
        "gradient masking: who sees nothing finds what the gradient misses",
        "report the black-box figure; attack through a smooth stand-in (BPDA)",
        _black_box,
    ),
    Probe(
        "attack and batch",
        "batch statistics or an attack that averages over its batch: results depend on the batch size",
        "use running statistics in evaluation; sum objectives over images, never average them",
        _batch_of_the_attack,
    ),
    Probe(
        "growing budget",
        "gradient masking: with 64/255 almost anything can be drawn into an image, so the attack fails, not "
        "the attacker",
        "look at the lines on the gradient; give the attack more steps",
        _ladder,
    ),
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
