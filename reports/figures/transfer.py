"""The transfer matrix as a heat map: rows are surrogates, columns victims."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vbench.core.errors import BadInput
from vbench.records.record import Record
from vbench.reports.distinct import attack_facts
from vbench.reports.figures.panels import Facet, attack_of, common, facets, facts_of, titles_of
from vbench.reports.figures.style import in_lines, new_figure, styled, width_of
from vbench.reports.rows import CLEAN, HEADINGS
from vbench.reports.transfer import Matrix, matrix, matrix_key

_FRAMED = "framed: surrogate and victim are the same model (weights may differ)"


def draw(records: Sequence[Record], metric: str = "r1", width: str | None = None) -> Figure:
    """One panel per attack and setting: ``metric`` after the attack in percent, darker is lower.

    The top row is the victims' clean value; a frame marks a surrogate that is the same model, maybe with
    other weights; cells that were not run are hatched. Raises BadInput without a transfer run.
    """
    panels = _panels(records)
    shared, own = common(panels)
    found = [matrix(panel.records, metric) for panel in panels]
    with styled():
        inches = width_of(width or ("column" if len(panels) == 1 else "full"))
        columns = min(len(panels), 1 if inches < 5 else 2)
        rows = -(-len(panels) // columns)
        longest = max(len(line) for one in found for name in one.victims for line in _short(name).split("\n"))
        high = max(0.24 * (len(one.surrogates) + 1.3) + 0.3 + 0.045 * longest for one in found)
        titles = titles_of(own, inches / columns)
        high += 0.12 * max(title.count("\n") + 1 for title in titles) + 0.25
        subject = f"{HEADINGS[metric]} after transfer, %"
        framed = [_FRAMED] if any(one.own.any() for one in found) else []
        figure = new_figure(inches, rows * high, subject, [*shared.values(), *framed])
        grid = list(figure.subplots(rows, columns, squeeze=False).flat)
        top = max(np.nanmax(np.append(one.values, one.clean)) for one in found)
        for axes, one, title in zip(grid, found, titles, strict=False):
            axes.set_title(title, loc="left")
            _heat(axes, one, max(top, 1.0))
        for axes in grid[len(panels) :]:
            axes.remove()
        return figure


def alt(records: Sequence[Record], metric: str = "r1") -> str:
    """Every row in words."""
    parts = []
    for panel in _panels(records):
        one = matrix(panel.records, metric)
        parts.append(panel.title)
        clean = ", ".join(
            f"{victim} {value:.1f}" for victim, value in zip(one.victims, one.clean, strict=True)
        )
        parts.append(f"clean: {clean}")
        for surrogate, row in zip(one.surrogates, one.values, strict=True):
            cells = zip(one.victims, row, strict=True)
            shown = ", ".join(f"{victim} {value:.1f}" for victim, value in cells if not np.isnan(value))
            parts.append(f"crafted on {surrogate}: {shown}")
    return f"{HEADINGS[metric]} after transfer, percent. " + "; ".join(parts) + "."


def drawable(records: Sequence[Record]) -> list[list[Record]]:
    """The records of each panel; none without transfer attacks."""
    return [panel.records for panel in _moved(records)]


def _panels(records: Sequence[Record]) -> list[Facet]:
    found = _moved(records)
    if not found:
        raise BadInput("no record is of a transfer; make some with vbench sweep transfer or --surrogate")
    return found


def _moved(records: Sequence[Record]) -> list[Facet]:
    moved = [record for record in records if record.surrogate]
    return facets(moved, matrix_key, _facts, lambda record: attack_facts(record, "surrogate", "perturbation"))


def _facts(record: Record) -> dict[str, str]:
    found = facts_of(record)
    attack = attack_of(record.model_copy(update={"surrogate": ""}))
    return {"protocol": found["protocol"], "budget": found["budget"], "attack": attack}


def _heat(axes: Axes, one: Matrix, top: float) -> None:
    # The clean row is half a cell apart, because it is not a result of the attack.
    places = [0, *(row + 1.3 for row in range(len(one.surrogates)))]
    colours = colormaps["cividis"]
    for place, row in zip(places, [one.clean, *one.values], strict=True):
        for column, value in enumerate(row):
            _cell(axes, place, column, value, colours, top)
    for row, column in np.argwhere(one.own):
        corner = (column + 0.04, places[row + 1] + 0.04)
        axes.add_patch(Rectangle(corner, 0.92, 0.92, fill=False, edgecolor="#D55E00", linewidth=1.2))
    axes.set_xlim(0, len(one.victims))
    axes.set_ylim(places[-1] + 1, 0)
    names = [_short(name) for name in one.victims]
    middles = np.arange(len(names)) + 0.5
    if max(map(len, one.victims)) > 6:
        axes.set_xticks(middles, names, rotation=40, ha="right", rotation_mode="anchor")
    else:
        axes.set_xticks(middles, names)
    axes.set_yticks([place + 0.5 for place in places], [CLEAN, *map(_short, one.surrogates)])
    axes.set_xlabel("shown to")
    axes.set_ylabel("crafted on")
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _cell(axes: Axes, place: float, column: int, value: float, colours: Colormap, top: float) -> None:
    if np.isnan(value):
        axes.add_patch(
            Rectangle((column, place), 1, 1, facecolor="#f4f4f4", edgecolor="#bbbbbb", hatch="////", lw=0)
        )
        return
    axes.add_patch(Rectangle((column, place), 1, 1, facecolor=colours(value / top), edgecolor="w", lw=0.8))
    dark = value / top < 0.55
    axes.text(
        column + 0.5,
        place + 0.5,
        f"{value:.1f}",
        ha="center",
        va="center",
        size=6,
        color="white" if dark else "#111111",
    )


def _short(name: str) -> str:
    return in_lines(name, 16)
