"""Tables of rows as text: markdown, CSV, JSON, LaTeX, or plain for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from vbench.errors import unknown_name
from vbench.record import Record
from vbench.reports.flat import flat, to_csv, to_json
from vbench.reports.rows import HEADINGS, METRICS, Row, Setting, tables
from vbench.reports.style import style_of

if TYPE_CHECKING:
    from vbench.lost import Failure

Format = Literal["markdown", "csv", "json", "latex", "plain"]
FORMATS = ("markdown", "csv", "json", "latex", "plain")
_ARROW = " -> "
_TEXTS = ("victim", "attack", "knowledge")


def report(records: Sequence[Record], style: str = "markdown", lost: Sequence[Failure] = ()) -> str:
    """Before/after tables of records; one table a setting, so that different protocols never share a column.

    Figures are percent, mean over trials and seeds, with the standard deviation over seeds where there are
    several. "csv" and "json" have one row a record, unrounded. ``lost`` runs stand below a plain table.
    Raises BadInput for an unknown format.
    """
    check_format(style)
    if style in ("csv", "json"):
        return to_csv(flat(records)) if style == "csv" else to_json(flat(records))
    found = [_table(where, rows, style) for where, rows in tables(records).items()]
    if lost and style == "plain":
        found.append("\n".join(["lost:", *(f"  {one}" for one in lost)]))
    return "\n\n".join(found)


def check_format(style: str) -> None:
    """Refuse an unknown format with :class:`BadInput`."""
    if style not in FORMATS:
        raise unknown_name("format", style, FORMATS)


def title(where: Setting, rows: Sequence[Row]) -> str:
    """The line above a table of these rows."""
    seeds = max(row.seeds for row in rows)
    spread = f", mean ± sd of up to {seeds} seeds" if seeds > 1 else ""
    return f"{where.title}; before -> after, %{spread}"


def header() -> list[str]:
    """Headings of the columns."""
    return [*_TEXTS, *(HEADINGS[metric] for metric in METRICS), "ASR", "gradient evaluations", "s"]


def cells(row: Row) -> list[str]:
    """One line of a table, as text."""
    return [*_labels(row), *_figures(row), *_cost(row)]


def alignment() -> list[str]:
    """The side each column stands on; given, so that tabulate leaves figures as they were written."""
    return ["left"] * len(_TEXTS) + ["right"] * (len(header()) - len(_TEXTS))


def _table(where: Setting, rows: Sequence[Row], style: str) -> str:
    page = style_of(style)
    lines = [[page.escape(cell) for cell in cells(row)] for row in rows]
    return page.table(header(), lines, alignment(), title(where, rows), (where.protocol, where.threat), ())


def _labels(row: Row) -> list[str]:
    return [row.victim, f"  · {row.attack}" if row.control else row.attack, row.knowledge]


def _figures(row: Row) -> list[str]:
    cells = []
    for metric in METRICS:
        spread = f" ± {row.spread[metric]:.1f}" if row.spread else ""
        cells.append(f"{row.before[metric]:.1f}{_ARROW}{row.after[metric]:.1f}{spread}")
    return cells


def _cost(row: Row) -> list[str]:
    if not row.evaluations:
        return ["", "", ""]
    asr = "" if row.asr is None else f"{row.asr:.1f}"
    return [asr, row.evaluations, f"{row.seconds:.1f}"]
