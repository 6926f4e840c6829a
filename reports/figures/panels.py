"""Axes for a list of facets under one title and over one legend, and who is drawn in them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vbench.record import Record
from vbench.reports.figures.facets import Facet, attack_of, common
from vbench.reports.figures.style import PALETTE, below, in_lines, legend_height, new_figure, width_of

_HEIGHT = 1.75


class Panels:
    """One axes a facet. Iterate over them to draw, then :meth:`finish`.

    What all facets share stands in the title, what they do not over their axes; "{of}" and "{on}" in
    ``subject`` become "of" and "on" the victim that all share. ``labels`` are those of the legend, to leave
    room for it. A single panel is a column wide unless ``width`` says otherwise.
    """

    def __init__(
        self,
        panels: Sequence[Facet],
        subject: str,
        notes: Sequence[str],
        labels: Sequence[str],
        width: str | None,
    ) -> None:
        shared, own = common(panels)
        inches = width_of(width or ("column" if len(panels) == 1 else "full"))
        columns = min(len(panels), 1 if inches < 5 else 3)
        rows = math.ceil(len(panels) / columns)
        titles = [in_lines("\n".join(facts.values()), int(17 * inches / columns)) for facts in own]
        above = 0.12 * max(title.count("\n") + 1 for title in titles) if any(titles) else 0
        named = {word: f" {word} {shared['victim']}" if "victim" in shared else "" for word in ("of", "on")}
        shared.pop("victim", None)
        height = rows * (_HEIGHT + above) + (legend_height(labels, inches) if labels else 0)
        self.figure = new_figure(inches, height, subject.format(**named), [*shared.values(), *notes])
        grid = self.figure.subplots(rows, columns, squeeze=False, sharex=False, sharey=True)
        self._axes = list(grid.flat)
        self._first = [row[0] for row in grid]
        self._panels, self._titles, self._width, self._columns = panels, titles, inches, columns

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

    def finish(self) -> Figure:
        """Take away unused axes and write the legend: each label once, in the order of drawing."""
        for axes in self._axes[len(self._panels) :]:
            axes.remove()
        entries: dict[str, object] = {}
        for axes in self._axes[: len(self._panels)]:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                entries.setdefault(label, handle)
        if entries:
            below(self.figure, [(handle, label) for label, handle in entries.items()], self._width)
        return self.figure


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


def strongest(records: Sequence[Record], metric: str, most: int = len(PALETTE)) -> tuple[list[Record], str]:
    """The records of the attacks that leave least of ``metric``, and a note where some are left out."""
    found: dict[str, list[float]] = {}
    for record in records:
        found.setdefault(attack_of(record), []).append(record.mean("adversarial", metric))
    if len(found) <= most:
        return list(records), ""
    best = sorted(found, key=lambda name: mean(found[name]))[:most]
    note = f"the {most} strongest of {len(found)} attacks"
    return [record for record in records if attack_of(record) in best], note
