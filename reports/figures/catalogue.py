"""Every figure by name: what it shows, what it needs, and how it is drawn. Light to import."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vbench.errors import unknown_name
from vbench.record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vbench.reports.figures.drawing import Drawing


@dataclass(frozen=True)
class Entry:
    """One figure.

    ``needs``: "records", or what a run must have kept: "embeddings", "images", "perturbation". ``metric``: it
    shows one that can be chosen.
    """

    name: str
    summary: str
    needs: str
    metric: bool = False

    @property
    def module(self) -> Any:
        """The module that draws it, loaded on first use; it loads matplotlib."""
        return import_module(f"vbench.reports.figures.{self.name}")


_ENTRIES = (
    Entry("cmc", "CMC curves before and after attacks", "records"),
    Entry("eps", "a metric against the budget eps", "records", metric=True),
    Entry("transfer", "surrogate x victim matrix as a heat map", "records", metric=True),
    Entry("cost", "damage against gradient evaluations or queries", "records", metric=True),
)
FIGURES = {entry.name: entry for entry in _ENTRIES}


def find(name: str) -> Entry:
    """The figure of a name; raises BadInput for an unknown one, with the nearest."""
    if name not in FIGURES:
        raise unknown_name("figure", name, FIGURES)
    return FIGURES[name]


def draw(
    name: str, records: Sequence[Record], runs: Path, metric: str = "r1", width: str | None = None
) -> Figure:
    """The named figure of ``records``, with what their runs kept under ``runs``.

    ``width``: "column" or "full", else the figure's own. Raises BadInput for an unknown name, for records
    that do not support the figure, and for kept files that are missing or broken.
    """
    entry = find(name)
    more: dict[str, Any] = {"metric": metric} if entry.metric else {}
    return entry.module.draw(records, width=width, **more)


def drawable(records: Sequence[Record], runs: Path, kept: bool = False, metric: str = "r1") -> list[Drawing]:
    """All figures that a set of records supports, as SVG for one page; their ids never collide.

    CMC and cost per victim and setting, ``metric`` against eps where an attack has several budgets, transfer
    matrices where something was transferred. With ``kept``, also those of single runs whose files lie under
    ``runs``. Raises BadInput where a record's stored ranks are broken.
    """
    return [
        _drawing(entry, same, {"metric": metric} if entry.metric else {})
        for entry in FIGURES.values()
        if entry.needs == "records"
        for same in entry.module.drawable(records)
    ]


def _drawing(entry: Entry, records: Sequence[Record], more: dict[str, Any]) -> Drawing:
    from vbench.reports.figures.drawing import Drawing, inline, title_of

    figure = entry.module.draw(records, **more)
    title, alt = title_of(figure), entry.module.alt(records, **more)
    about = " ".join([*more.values(), *(record.id for record in records)])
    prefix = f"{entry.name}-{hashlib.sha256(about.encode()).hexdigest()[:8]}"
    return Drawing(entry.name, title, alt, inline(figure, prefix, title, alt))
