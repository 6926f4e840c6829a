"""The query explorer, kept images and figures of the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vbench.core.errors import BadInput
from vbench.core.threat import parse_budget
from vbench.core.types import Side
from vbench.records.files import KeptImages, missing, read_images
from vbench.records.record import Record
from vbench.reports.rows import setting

if TYPE_CHECKING:
    from vbench.reports.figures.style import Drawing

#: Number of queries shown per run.
TOP = 20

_ARRAYS = ("clean_ap", "adversarial_ap", "clean_rank", "adversarial_rank")


@dataclass(frozen=True)
class Explorer:
    """``runs``: data for the page's script, one per run. ``names``: record id -> key of its run.

    ``without``: runs whose record has no per-query values; ``broken``: ids of those whose values cannot be
    read.
    """

    runs: Sequence[dict[str, Any]]
    names: dict[str, str]
    without: int
    broken: set[str]


def explorer(records: Sequence[Record], images: Mapping[str, dict[str, Any]] | None = None) -> Explorer:
    """The worst queries of records with per-query values; ``images``: record id -> its images on the page."""
    runs: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    broken: set[str] = set()
    without = 0
    for record in records:
        if not all(name in record.per_query for name in _ARRAYS):
            without += 1
            continue
        try:
            worst = _worst(record)
        except BadInput:
            broken.add(record.id)
            continue
        names[record.id] = key = str(len(runs))
        found = {"key": key, "group": setting(record).title, "name": _name(record), **worst}
        kept = (images or {}).get(record.id)
        runs.append({**found, "images": kept} if kept else found)
    return Explorer(runs, names, without, broken)


def _name(record: Record) -> str:
    victim = record.victim_name
    transfer = f" from {record.surrogate}" if record.surrogate else ""
    return f"{record.label}{transfer} on {victim}, seed {record.config.get('seed')}"


def _worst(record: Record) -> dict[str, Any]:
    """Queries ordered by their loss of average precision, mean over the trials in which they have a match.

    A row is: query (counted from 0, as the data set lists them), AP before, AP after, Rank before and after
    (median over trials), best and worst rank after, trials whose Rank-1 was lost, trials with a match.
    """
    arrays = [record.per_query[name].unpack() for name in _ARRAYS]
    if len({array.shape for array in arrays}) > 1 or arrays[0].ndim != 2 or not arrays[0].size:
        raise BadInput(f"record {record.id}: values of single queries have shapes that do not fit")
    before, after = (np.asarray(array, float) for array in arrays[:2])
    first, last = arrays[2:]
    valid = (first > 0) & (last > 0) & np.isfinite(before) & np.isfinite(after)
    counted = valid.sum(0)
    queries = np.flatnonzero(counted)
    lost = ((first == 1) & (last > 1) & valid).sum(0)
    gained = ((first > 1) & (last == 1) & valid).sum(0)
    fall = (np.where(valid, before - after, 0.0).sum(0)[queries]) / counted[queries]
    order = queries[np.argsort(-fall, kind="stable")][:TOP]
    shown = valid[:, order]
    precisions = [np.nanmean(np.where(shown, array[:, order], np.nan), 0) for array in (before, after)]
    ranks, attacked = (np.where(shown, array[:, order], np.nan) for array in (first, last))
    columns = [
        order,
        *(np.round(precision, 4) for precision in precisions),
        *(np.nanmedian(array, 0) for array in (ranks, attacked)),
        *(reduce(attacked, 0).astype(int) for reduce in (np.nanmin, np.nanmax)),
        lost[order],
        counted[order],
    ]
    rows = [list(row) for row in zip(*(column.tolist() for column in columns), strict=True)]
    pairs = max(int(counted.sum()), 1)
    return {
        "rows": rows,
        "queries": len(queries),
        "trials": len(first),
        "lost": round(100 * int(lost.sum()) / pairs, 1),
        "gained": round(100 * int(gained.sum()) / pairs, 1),
        "fell": round(100 * float((fall > 0).mean()), 1) if len(fall) else 0.0,
    }


#: Most runs with images on one page: about a quarter of a megabyte each.
MOST_RUNS = 12

#: Largest height of a thumbnail in pixels.
HEIGHT = 128

_QUALITY = 85


@dataclass
class Album:
    """``shown``: record id -> data for the page's script; ``left_out``: runs whose images are not shown."""

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
    """``pictures``: data URLs of thumbnails; ``queries``: facts and picture numbers of each query.

    ``before`` and ``after``: [picture, 1 if it has the query's identity else 0] of the best gallery images.
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
        width = max(1, round(image.width * HEIGHT / image.height))
        image = image.resize((width, HEIGHT), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


#: Most figures on one page; a figure has about 30 kB.
MOST = 40

#: Most runs whose kept files are drawn as figures; each takes seconds.
MOST_KEPT = 4

#: Figures of kept images that the query explorer already shows.
_ELSEWHERE = ("strips",)


@dataclass(frozen=True)
class Drawings:
    """``left_out``: number of further figures; ``problem``: why there are none, else empty."""

    shown: Sequence[Drawing] = ()
    left_out: int = 0
    problem: str = ""


def drawings(records: Sequence[Record], runs: Path | None, images: bool) -> Drawings:
    """Figures of records; with ``images`` also those of files that the first runs kept under ``runs``."""
    # Loads matplotlib, which a page without figures does not need.
    from vbench.reports.figures import FIGURES, drawable, supported

    folder, records = runs or Path(), [record for record in records if _has_budget(record)]
    try:
        found = drawable(records, folder, most=MOST)
        if images and runs is not None:
            kept = [one for one in records if not missing(runs, one, ["images"])][:MOST_KEPT]
            found += [one for one in drawable(kept, runs, kept=True) if FIGURES[one.name].needs != "records"]
    except BadInput as error:
        return Drawings(problem=str(error))
    wanted = [one for one in found if one.name not in _ELSEWHERE]
    undrawn = max(0, len(supported(records)) - MOST)
    return Drawings(wanted[:MOST], undrawn + max(0, len(wanted) - MOST))


def _has_budget(record: Record) -> bool:
    """Whether the budget is a number; an untrusted record may hold anything."""
    try:
        return bool(parse_budget(record.config["threat"]["eps"], str(record.config["threat"]["norm"])))
    except BadInput:
        return False
