"""What the figures of one run share: its title, and a row of pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from vbench.errors import BadInput
from vbench.kept import KeptImages
from vbench.record import Record
from vbench.reports.figures.facets import attack_of, facts_of

#: Pictures are drawn no higher than this: more is not seen at a page's size, and bloats a file.
_ROWS = 192


def one(records: Sequence[Record], name: str) -> Record:
    """The only record; raises BadInput, with the ids there are, for several."""
    if len(records) != 1:
        ids = ", ".join(f"{record.id} ({attack_of(record)})" for record in records[:6])
        more = f" and {len(records) - 6} more" if len(records) > 6 else ""
        raise BadInput(f"figure {name} shows one run; choose it with --run: {ids}{more}")
    return records[0]


def facts(record: Record, *more: str) -> list[str]:
    """The lines under the title: protocol, then budget and seed, then ``more``."""
    found = facts_of(record)
    seed = f"seed {record.config['seed']}"
    return [found["protocol"], f"{found['budget']}, {seed}", *more]


def row_of(kept: KeptImages, query: int | None) -> int:
    """The kept query that was asked for, by its number in the file; the first unless one was."""
    found = 0 if query is None else query
    if not 0 <= found < len(kept.before):
        raise BadInput(f"there is no kept query {found}; the run kept 0 to {len(kept.before) - 1}")
    return found


def representative(kept: KeptImages, most: int) -> list[int]:
    """Some kept queries: first of those that lose most, then, less than half, of those drawn at random.

    The worst alone would show an attack that is stronger than it is.
    """
    reasons = np.array(kept.meta.chosen)
    worst, others = (np.flatnonzero((reasons == "worst") == so).tolist() for so in (True, False))
    few = min(len(others), max(most // 2, most - len(worst)))
    return [*worst[: most - few], *others[:few]]


def small(pixels: np.ndarray) -> np.ndarray:
    """uint8 H x W x 3, no more than 192 rows."""
    height, width = pixels.shape[:2]
    if height <= _ROWS:
        return pixels
    size = (max(1, round(width * _ROWS / height)), _ROWS)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def picture(axes: Axes, pixels: np.ndarray, title: str = "") -> None:
    """An image (uint8, or floats in [0, 1]) without ticks, its title above."""
    axes.imshow(pixels, interpolation="nearest")
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)
