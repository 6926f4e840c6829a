"""Axes for a list of facets under one title and over one legend, and who is drawn in them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from vbench.record import Record
from vbench.reports.figures.facets import Facet, attack_of, common
from vbench.reports.figures.style import PALETTE, Legend, in_lines, new_figure, width_of

_HEIGHT = 1.75


class Panels:
    """One axes a facet. Iterate over them to draw, then :meth:`finish`.

    What all facets share stands in the title, what they do not over their axes; "{of}" and "{on}" in
    ``subject`` become "of" and "on" the victim that all share. ``labels`` are those of the legend; what
    is drawn must bear them. A single panel is a column wide unless ``width`` says otherwise.
    """

    def __init__(
        self,
        panels: Sequence[Facet],
        subject: str,
        notes: Sequence[str],
        labels: Sequence[str],
        width: str | None,
        handle: float = 2.6,
    ) -> None:
        shared, own = common(panels)
        inches = width_of(width or ("column" if len(panels) == 1 else "full"))
        columns = min(len(panels), 1 if inches < 5 else 3)
        rows = math.ceil(len(panels) / columns)
        titles = [in_lines("\n".join(facts.values()), int(17 * inches / columns)) for facts in own]
        above = 0.12 * max(title.count("\n") + 1 for title in titles) if any(titles) else 0
        named = {word: f" {word} {shared['victim']}" if "victim" in shared else "" for word in ("of", "on")}
        shared.pop("victim", None)
        self._legend = Legend(labels, inches, handle)
        height = rows * (_HEIGHT + above) + self._legend.height
        self.figure = new_figure(inches, height, subject.format(**named), [*shared.values(), *notes])
        grid = self.figure.subplots(rows, columns, squeeze=False, sharex=False, sharey=True)
        self._axes = list(grid.flat)
        self._first = [row[0] for row in grid]
        self._panels, self._titles = panels, titles

    def __iter__(self) -> Iterator[tuple[Axes, Facet]]:
        for axes, panel, title in zip(self._axes, self._panels, self._titles, strict=False):
            axes.set_title(title, loc="left")
            yield axes, panel

    def label(self, x: str, y: str) -> None:
        """Name both axes of every panel, the vertical one once a row."""
        for axes in self._axes[: len(self._panels)]:
            axes.set_xlabel(x)
        for axes in self._first:
            axes.set_ylabel(y)

    def limits(self, least: float, x: tuple[float, float], y: tuple[float, float]) -> None:
        """The same limits everywhere; the horizontal axis is logarithmic from ``least`` on, and has a 0."""
        for axes in self._axes[: len(self._panels)]:
            axes.set_xscale("symlog", linthresh=least, linscale=0.5)
            axes.set_xlim(*x)
            axes.set_ylim(*y)
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(_plain))

    def finish(self) -> Figure:
        """Take away unused axes and write the legend."""
        for axes in self._axes[len(self._panels) :]:
            axes.remove()
        entries: dict[str, object] = {}
        for axes in self._axes[: len(self._panels)]:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                entries.setdefault(label, handle)
        self._legend.write(self.figure, [entries[label] for label in self._legend.labels])
        return self.figure


def _plain(value: float, _: int) -> str:
    return f"{value:,.0f}" if value < 1e6 else f"{value / 1e6:,.0f} M"


def seeds_of(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records that differ in their seed alone, by the name of their attack, in the order they come."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        found.setdefault((attack_of(record), str(record.config.get("perturbation"))), []).append(record)
    named: dict[str, list[Record]] = {}
    for (name, _), same in found.items():
        count = sum(other == name for other, _ in found)
        named[name if count == 1 else f"{name} {same[0].id}"] = same
    return named


def strongest(panels: Sequence[Facet], metric: str, most: int = len(PALETTE)) -> tuple[list[str], str]:
    """Names of the attacks to draw, in the order they come, and a note where not all are.

    Drawn are those that leave least of ``metric``, then of mAP: by their place in each panel, mean over
    panels, since figures of different settings do not compare.
    """
    places: dict[str, list[float]] = {}
    for panel in panels:
        left: dict[str, list[Record]] = {}
        for record in panel.records:
            left.setdefault(attack_of(record), []).append(record)
        order = sorted(left, key=lambda name: _left(left[name], metric))
        for name in left:
            places.setdefault(name, []).append((order.index(name) + 1) / len(order))
    if len(places) <= most:
        return list(places), ""
    best = sorted(places, key=lambda name: mean(places[name]))[:most]
    return [name for name in places if name in best], f"the {most} strongest of {len(places)} attacks"


def _left(records: Sequence[Record], metric: str) -> tuple[float, ...]:
    return tuple(mean(record.mean("adversarial", which) for record in records) for which in (metric, "map"))
