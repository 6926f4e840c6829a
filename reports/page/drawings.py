"""The figures of the page, as images: nothing inside them can run, load or restyle the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vbench.budget import parse_budget
from vbench.errors import BadInput
from vbench.kept import missing
from vbench.record import Record

#: Figures of one page; a figure weighs some 30 kB.
MOST = 40
#: Runs whose kept files are drawn; each takes seconds.
MOST_KEPT = 4
#: Of kept images, what the query explorer shows itself.
_ELSEWHERE = ("strips",)


@dataclass(frozen=True)
class Shown:
    """One figure: ``about`` says in words what it shows."""

    title: str
    about: str
    svg: str


@dataclass(frozen=True)
class Drawings:
    """``left_out``: how many figures there are beyond; ``problem``: why there are none, else empty."""

    shown: Sequence[Shown] = ()
    left_out: int = 0
    problem: str = ""


def drawings(records: Sequence[Record], runs: Path | None, images: bool) -> Drawings:
    """Figures of records; with ``images`` also those of what the first runs kept under ``runs``."""
    # Loads matplotlib, which a page without figures does not need.
    from vbench.reports.figures.catalogue import FIGURES, drawable, supported

    folder, records = runs or Path(), [record for record in records if _has_budget(record)]
    try:
        found = drawable(records, folder, most=MOST)
        if images and runs is not None:
            kept = [one for one in records if not missing(runs, one, ["images"])][:MOST_KEPT]
            found += [one for one in drawable(kept, runs, kept=True) if FIGURES[one.name].needs != "records"]
    except BadInput as error:
        return Drawings(problem=str(error))
    wanted = [Shown(one.title, one.alt, one.svg) for one in found if one.name not in _ELSEWHERE]
    undrawn = max(0, len(supported(records)) - MOST)
    return Drawings(wanted[:MOST], undrawn + max(0, len(wanted) - MOST))


def _has_budget(record: Record) -> bool:
    """Whether the budget is a number; a record from elsewhere may say anything."""
    try:
        return bool(parse_budget(record.config["threat"]["eps"], str(record.config["threat"]["norm"])))
    except BadInput:
        return False
