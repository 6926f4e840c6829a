"""A baseline as text: what it holds and cannot see, and what an update changes in it."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from vbench.gate.baseline import Baseline, Unguarded
from vbench.gate.check import seeds_text
from vbench.gate.metrics import METRICS
from vbench.reports.gate import spread_text


def render_baseline(baseline: Baseline) -> str:
    """Its figures, how far each may move, and from what loss of strength an attack's gate is red."""
    seeds = len(baseline.seeds)
    lines, blind = [], []
    for subject in baseline.subjects:
        loss = baseline.smallest_loss(subject, seeds) if subject.attack else None
        seen = "" if loss is None else f"{100 * loss:.0f} % weaker"
        if loss is not None and loss >= 1:
            blind.append(str(subject))
        for position, (name, spread) in enumerate(subject.metrics.items()):
            metric = METRICS[name]
            bound = f"± {metric.shown(baseline.bound(spread, seeds))}"
            figures = [spread_text(metric, spread), bound, "" if position else seen]
            lines.append([str(subject), metric.label, *figures])
    header = ["victim, attack", "figure", f"mean ± sd of {seeds} seeds", "allowed", "red from"]
    parts = [tabulate(lines, header, colalign=["left"] * 2 + ["right"] * 3, disable_numparse=True)]
    if blind:
        parts.append(f"could stop working within these bounds, more seeds narrow them: {'; '.join(blind)}")
    return "\n\n".join(parts)


def render_unguarded(figures: Sequence[Unguarded]) -> str:
    """Figures that are left out of a baseline because no result could exceed their bounds, a line each."""
    lines = ["left out, since whatever happened would be allowed:"]
    for one in figures:
        metric = METRICS[one.metric]
        bound = f"± {metric.shown(one.bound)}"
        lines.append(f"- {one.subject}: {metric.label} {bound} {seeds_text(one.needed)}")
    return "\n".join(lines)


def render_update(old: Baseline, new: Baseline) -> str:
    """Every figure that an update changes, old -> new, and how many it leaves."""
    before = {subject.key: subject.metrics for subject in old.subjects}
    after = {subject.key: subject for subject in new.subjects}
    lines, same = [], 0
    for subject in {**{one.key: one for one in old.subjects}, **after}.values():
        metrics = after[subject.key].metrics if subject.key in after else {}
        known = before.get(subject.key, {})
        for name in dict.fromkeys((*known, *metrics)):
            pair = known.get(name), metrics.get(name)
            if pair[0] == pair[1]:
                same += 1
                continue
            metric = METRICS[name]
            shown = [f"{spread_text(metric, one)} ({one.n})" if one else "absent" for one in pair]
            lines.append([str(subject), metric.label, *shown])
    count = f"{len(lines)} figures rewritten, {same} as they were"
    if not lines:
        return count
    header = ["victim, attack", "figure", "old: mean ± sd (seeds)", "new"]
    table = tabulate(lines, header, colalign=["left"] * 2 + ["right"] * 2, disable_numparse=True)
    return f"{table}\n\n{count}"
