"""How far the mean of a re-run may lie from that of a baseline before chance no longer explains it."""

from __future__ import annotations

import bisect
import math

from scipy import stats

from vbench.gate.spread import Spread

#: Chance, at most, that a re-run with other seeds of the same code moves anywhere in one gate. Half of the
#: one in a hundred that is promised: seeds are not exactly normal.
FALSE_ALARM = 0.005
#: More seeds than anybody gives.
MOST_SEEDS = 1000


def allowed(spread: Spread, seeds: int, comparisons: int, false_alarm: float = FALSE_ALARM) -> float:
    """Largest difference, either way, between the mean of ``seeds`` new values and that of the baseline.

    Half the width of the two-sided prediction interval for the mean of m further observations from a normal
    distribution of which n were seen: t * s * sqrt(1/n + 1/m), t with the degrees of freedom of s (Hahn and
    Meeker, Statistical Intervals, 1991, section 4.8). The level is ``false_alarm`` over all ``comparisons``
    of the gate (Bonferroni), which holds however they depend on each other. Never less than the metric's
    resolution: seeds of something deterministic have no spread, and another machine rounds differently.
    """
    return max(spread.resolution, _width(spread, spread.n, seeds, comparisons, false_alarm))


def seeds_needed(
    spread: Spread, least: float, comparisons: int, false_alarm: float = FALSE_ALARM
) -> int | None:
    """How many seeds, in the baseline and in the re-run, bring :func:`allowed` below ``least``.

    As far as ``spread`` can tell; None where no number up to :data:`MOST_SEEDS` does.
    """
    if spread.resolution >= least:
        return None

    def enough(count: int) -> bool:
        return _width(spread, count, count, comparisons, false_alarm) < least

    # More seeds never widen a bound.
    found = bisect.bisect_left(range(MOST_SEEDS + 1), True, lo=2, key=enough)
    return found if found <= MOST_SEEDS else None


def _width(spread: Spread, before: int, now: int, comparisons: int, false_alarm: float) -> float:
    """Half the interval if the baseline had seen ``before`` seeds with the deviation that it saw."""
    if not spread.sd:
        return 0.0
    dof = spread.dof * (before - 1) / (spread.n - 1) if spread.n > 1 else spread.dof
    t = float(stats.t.isf(false_alarm / (2 * comparisons), dof))
    return t * spread.sd * math.sqrt(1 / before + 1 / now)
