"""Do attacks stand in the order that an honest gradient gives them?"""

from __future__ import annotations

from contextlib import suppress

from vbench.audit.check import Finding, Probe, Unmeasured, Verdict
from vbench.audit.evidence import Evidence, Outcome
from vbench.audit.statistics import Comparison
from vbench.embed import BATCH

NOISE = "noise[kind=sign]"
ONE_STEP = "metric_fgsm"
MANY_STEPS = "metric_ifgsm"
MORE_STEPS = "metric_ifgsm[steps=30]"
RESTARTS = "metric_ifgsm[restarts=3]"
STRONG = "sma"
#: Few queries need large squares: the paper's 0.05 is for ten thousand.
BLACK_BOX = "square[queries=300,p=0.8]"
#: Attacks that see everything, in the order of their cost.
WHITE_BOX = (ONE_STEP, MANY_STEPS, STRONG, MORE_STEPS, RESTARTS)
#: Another batch than a run's, dividing neither it nor any usual number of queries.
_ODD_BATCH = 13


def _compared(evidence: Evidence, first: str, second: str, decisions: int = 1) -> tuple[Comparison, str]:
    """Two attacks on the same queries, and the sentence about them."""
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
    """How far two attacks move embeddings; far fewer queries tell it than Rank-1 takes."""
    near, far = (evidence.moved(evidence.attacked(spec)) for spec in (first, second))
    compared = evidence.compare(near, far)
    figures = {
        "first_distance": float(near.mean()),
        "second_distance": float(far.mean()),
        "distance_noise": compared.noise,
    }
    return compared, f"; distances moved {near.mean():.3f} and {far.mean():.3f}", figures


def _beats_noise(evidence: Evidence) -> Finding:
    """Too few queries to tell two Rank-1 apart contradict nothing; an attack that moves nothing does."""
    compared, words = _compared(evidence, NOISE, MANY_STEPS, decisions=2)
    farther, more, distances = _distances(evidence, NOISE, MANY_STEPS)
    words += more
    figures = _figures(compared, evidence, NOISE, MANY_STEPS) | distances
    if compared.higher or not farther.higher:
        return Finding(Verdict.FAIL, words, figures)
    if compared.lower:
        return Finding(Verdict.PASS, words, figures)
    return Finding(Verdict.WARN, f"{words}; no difference of Rank-1 beyond noise", figures)


def _many_beat_one(evidence: Evidence) -> Finding:
    compared, words = _compared(evidence, ONE_STEP, MANY_STEPS, decisions=2)
    farther, more, distances = _distances(evidence, ONE_STEP, MANY_STEPS)
    words += more
    figures = _figures(compared, evidence, ONE_STEP, MANY_STEPS) | distances
    if compared.higher:
        return Finding(Verdict.FAIL, words, figures)
    if compared.lower or farther.higher:
        return Finding(Verdict.PASS, words, figures)
    return Finding(Verdict.WARN, f"{words}; no difference beyond noise", figures)


def _never_weaker(evidence: Evidence, less: str, more: str) -> Finding:
    compared, words = _compared(evidence, less, more)
    verdict = Verdict.FAIL if compared.higher else Verdict.PASS
    return Finding(verdict, words, _figures(compared, evidence, less, more))


def _black_box(evidence: Evidence) -> Finding:
    """By Rank-1, and by the distance that both raise, where neither gallery nor trial adds chance."""
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
    """Those of the attacks that run on this victim."""
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


_LOST = "gradient masking: the gradient leads away from what the victim does"

PROBES = (
    Probe(
        "attack beats noise",
        "gradient masking: the attack moves embeddings no further than chance does, so it is none",
        "look at the lines on the gradient; where only Rank-1 is undecided, more --queries or a larger --eps",
        _beats_noise,
    ),
    Probe(
        "many steps beat one",
        f"{_LOST} (Athalye et al. 2018)",
        "try smaller steps, smoothed gradients, and attacks without gradients",
        _many_beat_one,
    ),
    Probe(
        "more steps",
        f"{_LOST}, or the step size does not fit",
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
)
