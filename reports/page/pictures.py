"""Kept images as thumbnails of the query explorer: queries before and after, and heads of their rankings."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vbench.errors import BadInput
from vbench.kept import KeptImages, missing, read_images
from vbench.record import Record
from vbench.types import Side

#: Runs of one page that show images: about a quarter of a megabyte each.
MOST_RUNS = 12
#: Pixels that a thumbnail is high at most.
HEIGHT = 128
_QUALITY = 85


@dataclass
class Album:
    """``shown``: record id -> what the page's script reads; ``left_out``: runs whose images are not shown."""

    shown: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: int = 0
    broken: list[str] = field(default_factory=list)


def album(records: Sequence[Record], runs: Path) -> Album:
    """The images that runs kept under the folder ``runs``, of the first :data:`MOST_RUNS` that have any."""
    found = Album()
    for record in records:
        if missing(runs, record, ["images"]):
            continue
        if len(found.shown) == MOST_RUNS:
            found.left_out += 1
            continue
        try:
            found.shown[record.id] = _pages(read_images(runs, record))
        except BadInput as error:
            found.broken.append(str(error))
    return found


def _pages(kept: KeptImages) -> dict[str, Any]:
    """``pictures``: addresses of thumbnails; ``queries``: of each its facts and its pictures, by number.

    ``before`` and ``after``: [picture, 1 where it shows the right person] of the best of the gallery.
    """
    pictures: list[str] = []
    start: dict[tuple[Side, str], int] = {}
    for side in (Side.QUERY, Side.GALLERY):
        start[side, "before"] = start[side, "after"] = len(pictures)
        pictures += map(_address, kept.clean[side])
        if side in kept.meta.attacked:
            start[side, "after"] = len(pictures)
            pictures += map(_address, kept.shown[side])

    def head(name: str, places: np.ndarray, row: int) -> list[list[int]]:
        right = kept.right(places)[row]
        first = start[Side.GALLERY, name]
        return [[first + int(place), int(own)] for place, own in zip(places[row], right, strict=True)]

    queries = [
        {
            "query": int(kept.position[Side.QUERY][row]),
            "why": kept.meta.chosen[row],
            "rank": kept.rank[row].tolist(),
            "ap": [round(float(value), 3) for value in kept.precision[row]],
            "clean": start[Side.QUERY, "before"] + row,
            "shown": start[Side.QUERY, "after"] + row,
            "before": head("before", kept.before, row),
            "after": head("after", kept.after, row),
        }
        for row in range(len(kept.clean[Side.QUERY]))
    ]
    return {"trial": kept.meta.trial, "pictures": pictures, "queries": queries}


def _address(pixels: np.ndarray) -> str:
    image = Image.fromarray(pixels)
    if image.height > HEIGHT:
        image = image.resize((max(1, round(image.width * HEIGHT / image.height)), HEIGHT), Image.LANCZOS)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
