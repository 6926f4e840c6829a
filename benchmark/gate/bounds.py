"""How far the mean of a re-run may lie from that of a baseline before chance no longer explains it."""

from __future__ import annotations

import math

from scipy import stats

from vbench.gate.spread import Spread

#: Chance, at most, that a re-run with other seeds of the same code moves anywhere in one gate. Half of the
#: one in a hundred that is promised: seeds are not exactly normal.
FALSE_ALARM = 0.005


def allowed(spread: Spread, seeds: int, comparisons: int, false_alarm: float = FALSE_ALARM) -> float:
    """Largest difference, either way, between the mean of ``seeds`` new values and that of the baseline.

    Half the width of the two-sided prediction interval for the mean of m further observations from a normal
    distribution of which n were seen: t * s * sqrt(1/n + 1/m), t with the degrees of freedom of s (Hahn and
    Meeker, Statistical Intervals, 1991, section 4.8). The level is ``false_alarm`` over all ``comparisons``
    of the gate (Bonferroni), which holds however they depend on each other. Never less than the metric's
    resolution: seeds of something deterministic have no spread, and another machine rounds differently.
    """
    if not spread.sd:
        return spread.resolution
    t = float(stats.t.isf(false_alarm / (2 * comparisons), spread.dof))
    return max(spread.resolution, t * spread.sd * math.sqrt(1 / spread.n + 1 / seeds))
