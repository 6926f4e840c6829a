"""Ranking strips: a query and its best gallery images, before and after; frames mark right and wrong ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vbench.core.types import Side
from vbench.records.files import KeptImages
from vbench.records.record import Record
from vbench.reports.figures.panels import attack_of, facts, representative, row_of, small, victim_of
from vbench.reports.figures.style import RIGHT, SMALL_SIZE, WRONG, new_figure, styled, width_of

_GAP, _QUERY_GAP, _LABEL, _HEAD, _BETWEEN = 0.14, 0.35, 1.1, 0.75, 0.9
_WHY = {"worst": "loses most", "random": "drawn at random"}


def draw(record: Record, kept: KeptImages, query: int | None = None, width: str | None = None) -> Figure:
    """Two rows per query, before and after: the image given to the victim, then its gallery, best first.

    Solid green frames are the query's identity, dashed red ones are others. Images that the protocol removes
    are left out. Raises BadInput for a query that was not kept.
    """
    inches = width_of(width or "column")
    columns = 1 if inches < 5 or query is not None else 2
    rows = representative(kept, 3 if columns == 1 else 4) if query is None else [row_of(kept, query)]
    height, wide = kept.clean[Side.QUERY].shape[1:3]
    tall = height / wide
    depth = kept.before.shape[1]
    one_wide = _LABEL + 1 + _QUERY_GAP + depth * (1 + _GAP)
    total_width = columns * (one_wide + _BETWEEN) - _BETWEEN
    block = _HEAD + 2 * (tall + 2 * _GAP)
    with styled():
        scale = inches / (total_width + 0.2)
        subject = f"Rankings of {victim_of(record)} before and after {attack_of(record)}"
        note = f"trial {kept.meta.trial}; solid green: the query's identity, dashed red: another"
        # There the protocol's rank differs from the position in the row.
        note += "" if kept.meta.rule == "regdb" else "; ranks count identities"
        lines = -(-len(rows) // columns)
        figure = new_figure(inches, scale * (block * lines + 0.2), subject, facts(record, note))
        axes = figure.subplots()
        for number, row in enumerate(rows):
            left = number % columns * (one_wide + _BETWEEN)
            _block(axes, kept, row, left, number // columns * block, tall)
        axes.set_xlim(0, total_width)
        axes.set_ylim(block * lines, 0)
        axes.set_aspect("equal")
        axes.set_axis_off()
        return figure


def alt(record: Record, kept: KeptImages, query: int | None = None) -> str:
    """How many of the best gallery images are right before and after, in words."""
    parts = []
    for row in representative(kept, 3) if query is None else [row_of(kept, query)]:
        before, after = (int(kept.right(lists)[row].sum()) for lists in (kept.before, kept.after))
        first = " to ".join(str(rank) for rank in kept.rank[row])
        parts.append(
            f"query {row} ({_WHY.get(kept.meta.chosen[row], '')}): {before} right before, {after} after, "
            f"first match from rank {first}"
        )
    depth = kept.before.shape[1]
    about = f"Rankings of {victim_of(record)} before and after {attack_of(record)}"
    return f"{about}, the best {depth} of the gallery. {'; '.join(parts)}."


def _block(axes: Axes, kept: KeptImages, row: int, left: float, top: float, tall: float) -> None:
    ranks, precision = kept.rank[row], 100 * kept.precision[row]
    why = _WHY.get(kept.meta.chosen[row], "")
    text = (
        f"query {row}, {why}: first match at rank {ranks[0]} → {ranks[1]}, AP {precision[0]:.0f} → "
        f"{precision[1]:.0f} %"
    )
    axes.text(left, top + _HEAD - 0.15, text, size=SMALL_SIZE, va="bottom")
    parts = (
        ("before", kept.clean, kept.before[row], kept.right(kept.before)[row]),
        ("after", kept.shown, kept.after[row], kept.right(kept.after)[row]),
    )
    for line, (name, images, gallery, right) in enumerate(parts):
        y = top + _HEAD + line * (tall + 2 * _GAP)
        axes.text(left, y + tall / 2, name, size=SMALL_SIZE, va="center", rotation=90)
        _thumb(axes, images[Side.QUERY][row], left + _LABEL, y, tall)
        start = left + _LABEL + 1 + _QUERY_GAP
        _row(axes, images[Side.GALLERY][gallery], right, start, y, tall)


def _row(
    axes: Axes, images: Sequence[np.ndarray], right: np.ndarray, x: float, y: float, tall: float
) -> None:
    for place, (image, good) in enumerate(zip(images, right, strict=True)):
        left = x + place * (1 + _GAP)
        _thumb(axes, image, left, y, tall)
        axes.add_patch(
            Rectangle(
                (left, y),
                1,
                tall,
                fill=False,
                edgecolor=RIGHT if good else WRONG,
                linewidth=1.4 if good else 1.0,
                linestyle="-" if good else (0, (2, 1)),
                gid=f"{'right' if good else 'wrong'}-{x:.0f}-{y:.2f}-{place}",
            )
        )


def _thumb(axes: Axes, image: np.ndarray, x: float, y: float, tall: float) -> None:
    axes.imshow(small(image), extent=(x, x + 1, y + tall, y), interpolation="antialiased", zorder=1)
