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
    figure = Figure((9, 4.4), dpi=110, layout="constrained")
    cells = figure.subplots(2, DEPTH + 3, width_ratios=[1, 1, 0.35, *[1] * DEPTH])
    pair = (("visible", kept.clean[Side.GALLERY][kept.match[row]]), ("infrared query", query))
    after = ((f"change x{factor:.0f}", np.clip(0.5 + factor * change, 0, 1)), ("what the model sees", shown))
    ranks = kept.rank[row]
    for line, (left, order, name) in enumerate(((pair, kept.before, "before"), (after, kept.after, "after"))):
        for cell, (title, image) in zip(cells[line], left, strict=False):
            cell.imshow(image)
            cell.set_title(title, fontsize=9)
        right = kept.right(order)[row]
        for cell, place, good in zip(cells[line, 3:], order[row], right, strict=False):
            cell.imshow(kept.clean[Side.GALLERY][place])
            for spine in cell.spines.values():
                spine.set(color=RIGHT if good else WRONG, linewidth=2.5, linestyle="-" if good else "--")
        cells[line, 3].set_title(
            f"gallery {name}: first right one at rank {ranks[line]}", fontsize=9, loc="left"
        )
    for cell in cells.flat:
        cell.set(xticks=[], yticks=[])
    for cell in cells[:, :3].flat:
        cell.spines[:].set_visible(False)
    figure.savefig(out)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
