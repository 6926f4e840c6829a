"""Damage against cost: the drop of each attack and its cost on the whole test set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vbench.records.record import Record
from vbench.reports.figures.panels import Facet, Panels, facets, seeds_of
from vbench.reports.figures.style import PALETTE, styled, write_labels
from vbench.reports.rows import HEADINGS

#: Kind of attack -> marker, colour.
KINDS = {
    "universal": ("o", PALETTE[0]),
    "per-image": ("^", PALETTE[1]),
    "query-limited": ("D", PALETTE[2]),
    "battery": ("P", PALETTE[3]),
}
_SUBJECT = "Attacks{on}: damage against cost"
_NOTE = "cost of attacking the whole set, a fit included"


@dataclass(frozen=True)
class Point:
    """An attack: its kind, cost on the whole test set, drop in points and spread of the drop."""

    attack: str
    kind: str
    cost: float
    drop: float
    spread: float


def points(panel: Facet, metric: str) -> list[Point]:
    """One point per attack, mean over seeds, the most damaging first.

    Cost: gradient evaluations (one per image and step) of the fit and of attacking every image; for black-box
    attacks their queries. A reused perturbation costs nothing here: its fit was another run.
    """
    found = [_point(name, same, metric) for name, same in seeds_of(panel).items()]
    return sorted(found, key=lambda point: -point.drop)


def draw(records: Sequence[Record], metric: str = "r1", width: str | None = None) -> Figure:
    """Drop of ``metric`` in points against cost; each point has its attack's name next to it.

    Markers distinguish universal, per-image and query-limited attacks and batteries; bars are ± a standard
    deviation of the drop over trials and seeds.
    """
    panels = facets(records)
    found = [points(panel, metric) for panel in panels]
    kinds = {point.attack: point.kind for same in found for point in same}
    used = [kind for kind in KINDS if kind in kinds.values()]
    with styled():
        page = Panels(panels, _SUBJECT, [_NOTE], {kind: kind for kind in used}, width, handle=1.0)
        for (axes, _), same in zip(page, found, strict=True):
            for kind in used:
                axes.plot([], [], linestyle="", marker=KINDS[kind][0], color=KINDS[kind][1], label=kind)
            _panel(axes, same)
        page.limits(*_limits(found))
        page.label("gradient evaluations or queries", f"{HEADINGS[metric]} drop, points")
        figure = page.finish()
        # Free space for names is known only after the layout of the axes.
        figure.draw_without_rendering()
        for (axes, _), same in zip(page, found, strict=True):
            write_labels(axes, [(point.cost, point.drop, point.attack) for point in same])
        return figure


def alt(records: Sequence[Record], metric: str = "r1") -> str:
    """Every point in words."""
    parts = []
    for panel in facets(records):
        shown = [
            f"{point.attack} ({point.kind}) {point.drop:.1f} points for {point.cost:,.0f}"
            for point in points(panel, metric)
        ]
        parts.append(f"{panel.title}: {', '.join(shown)}")
    return f"Drop of {HEADINGS[metric]} against gradient evaluations or queries. " + "; ".join(parts) + "."


def drawable(records: Sequence[Record]) -> list[list[Record]]:
    """The records of each panel with at least two attacks, one of them with a cost."""
    panels = [panel for panel in facets(records) if len(seeds_of(panel)) > 1]
    return [panel.records for panel in panels if any(map(_spent, panel.records))]


def _point(name: str, records: Sequence[Record], metric: str) -> Point:
    drops = [
        100 * (getattr(before, metric) - getattr(after, metric))
        for record in records
        for before, after in zip(record.clean, record.adversarial, strict=False)
    ]
    spread = stdev(drops) if len(drops) > 1 else 0.0
    return Point(name, _kind(records[0]), mean(map(_spent, records)), mean(drops), spread)


def _spent(record: Record) -> float:
    cost = record.cost
    images = round(cost.get("attack_seconds", 0.0) * cost.get("images_per_second", 0.0))
    queries = cost.get("queries_per_image", 0.0) * images
    return cost.get("fit_evaluations", 0.0) + cost.get("attack_evaluations", 0.0) + queries


def _kind(record: Record) -> str:
    if record.members:
        return "battery"
    if record.cost.get("queries_per_image"):
        return "query-limited"
    return "universal" if record.universal else "per-image"


def _panel(axes: Axes, found: Sequence[Point]) -> None:
    for point in found:
        marker, colour = KINDS[point.kind]
        axes.errorbar(
            point.cost,
            point.drop,
            yerr=point.spread,
            marker=marker,
            color=colour,
            elinewidth=0.6,
            capsize=1.5,
        )


def _limits(found: Sequence[Sequence[Point]]) -> tuple[float, tuple[float, float], tuple[float, float]]:
    """Start of the logarithmic scale, and the limits of both axes, the same for all panels."""
    every = [point for same in found for point in same]
    positive = [point.cost for point in every if point.cost > 0]
    least = 10 ** math.floor(math.log10(min(positive))) if positive else 1
    low, high = min(p.drop - p.spread for p in every), max(p.drop + p.spread for p in every)
    room = 0.06 * (high - low + 1)
    return least, (-0.4 * least, max(positive, default=1) * 3), (min(0.0, low) - room, high + 2 * room)
