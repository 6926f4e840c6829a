"""A metric against the budget: one line per attack, one panel per victim and setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vbench.core.errors import BadInput
from vbench.core.threat import budget_text, show_budget
from vbench.records.record import Record
from vbench.reports.distinct import victim_key
from vbench.reports.figures.panels import (
    Facet,
    Panels,
    Value,
    budget_of,
    facets,
    facts_of,
    seeds_of,
    strongest,
    value,
)
from vbench.reports.figures.style import DASHES, MARKERS, PALETTE, in_lines, styled
from vbench.reports.rows import HEADINGS, setting

_SHARED = ("norm", "side", "quantize")

# What differs along a line: a replay has another perturbation at each budget.
_OTHER = ("threat", "perturbation")


@dataclass(frozen=True)
class Line:
    """An attack at several budgets: ``eps`` as recorded, ascending, and the metric there, percent."""

    attack: str
    eps: tuple[Fraction, ...]
    values: tuple[Value, ...]


def draw(records: Sequence[Record], metric: str = "r1", width: str | None = None) -> Figure:
    """``metric`` after the attack in percent against eps, starting with the clean value at 0.

    Bars are ± a standard deviation over trials and seeds. L_inf budgets are in 8-bit levels. Attacks with a
    single budget are left out; raises BadInput if none has two.
    """
    panels = _panels(records)
    names, note = strongest(panels, metric, *_OTHER)
    subject = f"{HEADINGS[metric]}{{of}} against the budget"
    with styled():
        page = Panels(panels, subject, [note], {name: in_lines(name, 60) for name in names}, width)
        for axes, panel in page:
            _panel(axes, panel, metric, names)
        linf = panels[0].records[0].config["threat"]["norm"] == "linf"
        page.label("eps, 8-bit levels" if linf else "eps", f"{HEADINGS[metric]}, %")
        return page.finish()


def alt(records: Sequence[Record], metric: str = "r1") -> str:
    """Every line's first and last budget in words."""
    parts = []
    for panel in _panels(records):
        clean = value(panel.records, "clean", metric).mean
        parts.append(f"{panel.title}: clean {clean:.1f}")
        norm = panel.records[0].config["threat"]["norm"]
        for line in lines(panel, metric):
            ends = [f"{line.values[at].mean:.1f} at eps {show_budget(line.eps[at], norm)}" for at in (0, -1)]
            parts.append(f"{line.attack} {' to '.join(ends)}")
    return f"{HEADINGS[metric]} against the budget, percent. " + "; ".join(parts) + "."


def lines(panel: Facet, metric: str) -> list[Line]:
    """The lines of one panel: attacks with at least two budgets, in order of appearance."""
    found: dict[str, dict[Fraction, list[Record]]] = {}
    for attack, same in seeds_of(panel, *_OTHER).items():
        for record in same:
            found.setdefault(attack, {}).setdefault(budget_of(record), []).append(record)
    return [
        Line(
            attack,
            tuple(sorted(budgets)),
            tuple(value(budgets[eps], "adversarial", metric) for eps in sorted(budgets)),
        )
        for attack, budgets in found.items()
        if len(budgets) > 1
    ]


def drawable(records: Sequence[Record]) -> list[list[Record]]:
    """The records of each panel that has a line; none if no attack has two budgets."""
    return [panel.records for panel in _candidates(records)]


def _panels(records: Sequence[Record]) -> list[Facet]:
    found = _candidates(records)
    if not found:
        raise BadInput("no attack has runs at two budgets on one victim; run it again with another --eps")
    if len({panel.records[0].config["threat"]["norm"] for panel in found}) > 1:
        raise BadInput('L_inf and L2 budgets have no common axis; choose one: --where "norm=linf"')
    return found


def _candidates(records: Sequence[Record]) -> list[Facet]:
    found = []
    for panel in facets(records, _panel_key, _facts):
        several = {line.attack for line in lines(panel, "r1")}
        kept = [same for name, same in seeds_of(panel, *_OTHER).items() if name in several]
        if kept:
            found.append(replace(panel, records=[record for same in kept for record in same]))
    return found


def _facts(record: Record) -> dict[str, str]:
    # The budget varies along the axis; the rest of the threat model is fixed.
    eps = budget_text(record.config["threat"])
    return {**facts_of(record), "budget": setting(record).threat.replace(f" {eps},", ",", 1)}


def _panel_key(record: Record) -> tuple[object, ...]:
    where, threat = setting(record), record.config["threat"]
    data = (where.data, where.synthetic, where.protocol, where.fingerprint, where.trials)
    return (*data, *(threat[name] for name in _SHARED), victim_key(record), bool(record.surrogate))


def _panel(axes: Axes, panel: Facet, metric: str, names: Sequence[str]) -> None:
    clean = value(panel.records, "clean", metric)
    scale = 255 if panel.records[0].config["threat"]["norm"] == "linf" else 1
    for line in lines(panel, metric):
        if line.attack not in names:
            continue
        place = names.index(line.attack) % len(PALETTE)
        axes.errorbar(
            [0, *(float(eps * scale) for eps in line.eps)],
            [clean.mean, *(one.mean for one in line.values)],
            yerr=[clean.spread, *(one.spread for one in line.values)],
            color=PALETTE[place],
            linestyle=DASHES[place],
            marker=MARKERS[place],
            elinewidth=0.6,
            capsize=1.5,
            label=line.attack,
            clip_on=False,
        )
    ticks = sorted({0.0, *(float(eps * scale) for line in lines(panel, metric) for eps in line.eps)})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlim(0, ticks[-1])
    axes.set_ylim(0, 102)
