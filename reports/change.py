"""Before, after and drop of one metric of a row, in words: what every full table says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from vbench.record import TrialMetrics
from vbench.reports.best import interval
from vbench.reports.rows import Row


@dataclass(frozen=True)
class Change:
    """One metric in percent: "80.0", "± 1.4", "20.0", "± 1.4 / 2.0", "60.0", "[55.0, 64.0]", "(75 %)".

    The spreads are empty for one trial and one seed, ``interval`` where records have none, ``relative`` where
    the clean figure is 0.
    """

    clean: str
    clean_spread: str
    attacked: str
    attacked_spread: str
    drop: str
    interval: str
    relative: str


def change(row: Row, metric: str) -> Change:
    """The change of a metric other than ASR."""
    before, after = row.before[metric], row.after[metric]
    spread = _spread(row.attacked, metric)
    if row.spread:
        spread = f"{spread} / {row.spread[metric]:.1f}".strip()
    bounds = interval(row, metric)
    # Adding 0 makes of a drop that rounds to -0.0 a plain 0.0.
    drop = round(before - after, 1) + 0.0
    return Change(
        f"{before:.1f}",
        _spread(row.clean, metric),
        f"{after:.1f}",
        spread,
        f"{drop:.1f}",
        f"[{bounds[0]:.1f}, {bounds[1]:.1f}]" if bounds else "",
        f"({round(100 * (before - after) / before) + 0:d} %)" if before else "",
    )


def _spread(runs: Sequence[list[TrialMetrics]], metric: str) -> str:
    """Standard deviation over trials, mean over seeds; nothing for a single trial."""
    found = [stdev(getattr(trial, metric) for trial in trials) for trials in runs if len(trials) > 1]
    return f"± {100 * mean(found):.1f}" if found else ""
