"""Full tables as text: before, after, drop, spread, best in bold, p, cost and published figures."""

from __future__ import annotations

from collections.abc import Sequence

from vbench.record import Record
from vbench.reports.change import change
from vbench.reports.flat import flat, to_csv, to_json
from vbench.reports.rows import HEADINGS, Row
from vbench.reports.select import DEFAULT_METRICS
from vbench.reports.sheets import Entry, Sheet, Versus, facts, sheets, split, versus_of
from vbench.reports.significance import p_values
from vbench.reports.style import Page, style_of


def report_of(
    records: Sequence[Record],
    style: str = "markdown",
    metrics: Sequence[str] | None = None,
    group: str | None = None,
    versus: str | None = None,
) -> str:
    """Full tables of records, as text in "markdown", "latex" or "plain"; or flat rows, "csv" and "json".

    One table a setting (data, protocol, budget, side, trials), or one a victim, attack or data set with
    ``group``. What all rows of a table share stands in its title; protocol, budget, trials and data that
    differ within it are columns. Synthetic and real data never share a table. Figures are percent.
    ``versus`` adds p against that attack (:mod:`vbench.reports.significance`). Flat rows are one a record,
    in [0, 1], with all metrics unless some are named; ``group`` orders them.

    Raises BadInput for an unknown style, group or attack to compare with.
    """
    shown = DEFAULT_METRICS if metrics is None else metrics
    if style in ("csv", "json"):
        tables = [entries for _, entries in split(records, group)]
        return _flat(tables, style, metrics, versus_of(records, versus, shown))
    page = style_of(style)
    against = versus_of(records, versus, shown)
    return page.join(
        [_table(sheet, page, shown, against) for sheet in sheets(records, shown, group, against)]
    )


def _flat(
    tables: Sequence[Sequence[Entry]], style: str, metrics: Sequence[str] | None, versus: Versus | None
) -> str:
    records, more = [], {}
    for entries in tables:
        found = p_values(entries, versus.label, versus.metric) if versus else [None] * len(entries)
        for (_, row), p in zip(entries, found, strict=True):
            records += row.records
            if versus:
                more |= {record.id: {versus.heading: p} for record in row.records}
    lines = flat(records, metrics, more)
    return to_csv(lines) if style == "csv" else to_json(lines)


def _table(sheet: Sheet, page: Page, metrics: Sequence[str], versus: Versus | None) -> str:
    header = ["victim", "attack", "knowledge", *sheet.differing]
    sides = ["left"] * len(header)
    lines = []
    for index, (where, row) in enumerate(sheet.entries):
        labels = [row.victim, f"  · {row.attack}" if row.control else row.attack, row.knowledge]
        line = [page.escape(cell) for cell in (*labels, *(facts(where)[fact] for fact in sheet.differing))]
        for metric in metrics:
            line += _cells(row, metric, page, index in sheet.bold[metric])
        lines.append([*line, *(page.escape(cell) for cell in _cost(row))])
    for metric in metrics:
        header += ["ASR"] if metric == "asr" else [HEADINGS[metric], f"{HEADINGS[metric]} drop"]
    header += ["gradient evaluations", "s"]
    if versus:
        header.append(versus.heading)
        for line, p in zip(lines, sheet.p, strict=True):
            line.append(page.escape(shown_p(p)))
    if sheet.published:
        header.append("published")
        for line, cell in zip(lines, sheet.published, strict=True):
            line.append(page.escape(cell))
    sides += ["right"] * (len(header) - len(sides))
    sides = ["left" if head == "published" else side for head, side in zip(header, sides, strict=True)]
    badge = "SYNTHETIC " if sheet.synthetic else ""
    title = badge + "; ".join([*sheet.about, sheet.legend])
    heads = [page.escape(head) for head in header]
    return page.table(heads, lines, sides, title, sheet.about, sheet.notes)


def _cells(row: Row, metric: str, page: Page, bold: bool) -> list[str]:
    if metric == "asr":
        return ["" if row.asr is None else page.strong(f"{row.asr:.1f}", bold)]
    found = change(row, metric)
    drop = _joined(found.drop, found.interval, found.relative)
    clean = page.escape(f"{_joined(found.clean, found.clean_spread)} → ")
    attacked = page.escape(_joined(found.attacked, found.attacked_spread))
    return [clean + page.strong(attacked, bold), page.escape(drop)]


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _cost(row: Row) -> list[str]:
    return [row.evaluations, f"{row.seconds:.1f}"] if row.evaluations else ["", ""]


def shown_p(value: float | None) -> str:
    """A p as tables show it."""
    if value is None:
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"
