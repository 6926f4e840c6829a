"""The picture of the README: a pair, the perturbation, the ranking before and after; ``make picture``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vbench.core.types import Side
from vbench.records.files import read_images
from vbench.records.store import RunStore
from vbench.reports.figures.panels import representative
from vbench.reports.figures.perturbation import gain
from vbench.reports.figures.style import RIGHT, WRONG

#: Gallery images in a row.
DEPTH = 8


def draw(runs: Path, out: Path) -> None:
    """The query that lost most of the only record in ``runs``."""
    (record,) = RunStore(runs).read_all().records
    kept = read_images(runs, record)
    row = representative(kept, 1)[0]
    query, shown = kept.clean[Side.QUERY][row], kept.shown[Side.QUERY][row]
    change = (shown.astype(float) - query) / 255
    factor = gain(record, change)
    figure = Figure((9, 4), dpi=100)
    cells = figure.subplots(2, DEPTH + 3, width_ratios=[1, 1, 0.4, *[1] * DEPTH])
    figure.subplots_adjust(left=0.01, right=0.99, top=0.93, bottom=0.01, wspace=0.12, hspace=0.2)
    pair = (("visible", kept.clean[Side.GALLERY][kept.match[row]]), ("infrared", query))
    after = ((f"change \u00d7{factor:.0f}", np.clip(0.5 + factor * change, 0, 1)), ("attacked", shown))
    for line, (left, order, name) in enumerate(((pair, kept.before, "before"), (after, kept.after, "after"))):
        for cell, (title, image) in zip(cells[line], left, strict=False):
            cell.imshow(image, interpolation="nearest")
            cell.set_title(title, fontsize=10)
            cell.spines[:].set_visible(False)
        for cell, place, good in zip(cells[line, 3:], order[row], kept.right(order)[row], strict=False):
            cell.imshow(kept.clean[Side.GALLERY][place], interpolation="nearest")
            cell.spines[:].set(color=RIGHT if good else WRONG, linewidth=2.5, linestyle="-" if good else "--")
        text = f"gallery {name} the attack, best first: the first right one has rank {kept.rank[row][line]}"
        cells[line, 3].set_title(text, fontsize=10, loc="left")
        cells[line, 2].set_axis_off()
    for cell in cells.flat:
        cell.set(xticks=[], yticks=[])
    figure.savefig(out)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
