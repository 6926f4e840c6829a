"""Does a growing budget take the ranking down, to chance at 64/255?"""

from __future__ import annotations

from itertools import pairwise

from vbench.audit.check import Finding, Probe, Verdict
from vbench.audit.evidence import Evidence, rank1
from vbench.audit.strength import STRONG

#: 8-bit levels.
RUNGS = (4, 8, 16, 32, 64)


def _ladder(evidence: Evidence) -> Finding:
    rungs = {0: evidence.clean}
    for levels in RUNGS:
        rungs[levels] = evidence.attacked(STRONG, f"{levels}/255").hits
    figures = {f"rank1_at_{levels}": rank1(hits) for levels, hits in rungs.items()}
    chance, bound = evidence.bench.chance_rank1(), evidence.chance_bound()
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


PROBES = (
    Probe(
        "growing budget",
        "gradient masking: with 64/255 almost anything can be drawn into an image, so the attack fails, not "
        "the attacker",
        "look at the lines on the gradient; give the attack more steps",
        _ladder,
    ),
)
