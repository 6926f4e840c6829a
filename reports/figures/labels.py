"""Short labels beside points, each on the side where it covers least."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from matplotlib.axes import Axes

from vbench.reports.figures.style import SMALL_SIZE

#: Offsets in points of the page, the preferred first.
_SIDES = sorted(product((6, -6, 0), (5, -5, 0)), key=lambda side: (side[1] == 0, side[0] == 0, -sum(side)))[
    :-1
]
_HALF = np.array([4.5, 3.5])


def beside(axes: Axes, places: Sequence[tuple[float, float, str]]) -> None:
    """Write a short label beside each (x, y, label), once the axes have their place on the page."""
    if not places:
        return
    marks = axes.transData.transform([(x, y) for x, y, _ in places]) * 72 / axes.figure.dpi
    taken: list[np.ndarray] = []
    for (x, y, label), mark in zip(places, marks, strict=True):
        crowds = [_crowd(mark + side, marks, taken) for side in _SIDES]
        side = _SIDES[int(np.argmin(crowds))]
        taken.append(mark + side)
        axes.annotate(
            label, (x, y), side, textcoords="offset points", size=SMALL_SIZE, ha="center", va="center"
        )


def _crowd(place: np.ndarray, marks: np.ndarray, taken: Sequence[np.ndarray]) -> float:
    """How much a label here would cover of marks and of other labels."""
    others = [*((mark, _HALF + 2) for mark in marks), *((other, 2 * _HALF) for other in taken)]
    return sum(float(np.prod(np.clip(reach - np.abs(place - other), 0, None))) for other, reach in others)
