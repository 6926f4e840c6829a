"""Tables of rows as text: markdown, CSV, JSON, LaTeX, or plain for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from tabulate import tabulate

from vbench.errors import unknown_name
from vbench.record import Record
from vbench.reports import latex
from vbench.reports.flat import flat, to_csv, to_json
from vbench.reports.rows import HEADINGS, METRICS, Row, Setting, tables

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["markdown", "csv", "json", "latex", "plain"]
FORMATS = ("markdown", "csv", "json", "latex", "plain")
_ARROW = " -> "


def report(records: Sequence[Record], style: str = "markdown") -> str:
    """Before/after tables of records; one table a setting, so that different protocols never share a column.

    Figures are percent, mean over trials and seeds, with the standard deviation over seeds where there are
    several. "csv" and "json" have one row a record, unrounded. Raises BadInput for an unknown format.
    """
    check_format(style)
    if style in ("csv", "json"):
        return to_csv(flat(records)) if style == "csv" else to_json(flat(records))
    return "\n\n".join(_table(where, rows, style) for where, rows in tables(records).items())


def check_format(style: str) -> None:
    """Refuse an unknown format with :class:`BadInput`."""
    if style not in FORMATS:
        raise unknown_name("format", style, FORMATS)


def to_frame(records: Sequence[Record]) -> pd.DataFrame:
    """The rows of :func:`vbench.reports.flat.flat` as a pandas table."""
    # Slow to load, and tables as text do without it.
    import pandas as pd

    return pd.DataFrame(flat(records))


def _table(where: Setting, rows: Sequence[Row], style: str) -> str:
    seeds = max(row.seeds for row in rows)
    header = ["victim", "attack", "knowledge"]
    header += [f"{HEADINGS[metric]}" for metric in METRICS]
    header += ["ASR", "gradient evaluations", "s"]
    lines = [[*_labels(row), *_figures(row), *_cost(row)] for row in rows]
    # Alignment is given, so that tabulate leaves figures as they were written.
    align = ["left"] * 3 + ["right"] * (len(header) - 3)
    title = f"{where.title}; before -> after, %" + (
        f", mean ± sd of up to {seeds} seeds" if seeds > 1 else ""
    )
    if style == "latex":
        cells = [[latex.escape(cell) for cell in line] for line in lines]
        return latex.environment(header, cells, align, title, latex.label(where.protocol, where.threat))
    names = {"markdown": "pipe", "plain": "simple"}
    body = tabulate(lines, header, tablefmt=names[style], colalign=align, disable_numparse=True)
    return f"**{title}**\n\n{body}" if style == "markdown" else f"{title}\n\n{body}"


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
