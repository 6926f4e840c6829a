"""The paper's tables from filled suites: its rows in its order, its figures beside ours on its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vbench.paper.slot import Filled
from vbench.reports.flat import to_csv, to_json
from vbench.reports.paper_flat import flat_rows
from vbench.reports.paper_rows import SuiteRow, SuiteTable, suite_tables
from vbench.reports.published import Published, References
from vbench.reports.rows import HEADINGS, METRICS, budget
from vbench.reports.style import Page, style_of

_LEVELS = {
    "pixel": "pixel level: x + d, victim unmodified",
    "feature": "feature level: the modules stay inside the attacked side",
}
_TEN = "Published on RegDB is the mean of ten splits; not all are here."
_EITHER = "The source does not say at which level it measured; its figures stand beside both."


def paper_report(filled: Sequence[Filled], style: str = "plain") -> str:
    """Every table of the slots, as "plain", "markdown" or "latex" text; "csv" and "json" have a row a run.

    One table a suite, level, victim and protocol (systems: victims are rows). Figures are percent, mean over
    trials, splits and seeds. Published figures stand beside rows on real data alone, under the same protocol.
    Rows without figures say why below. Raises BadInput for an unknown style.
    """
    if style in ("csv", "json"):
        lines = flat_rows(filled)
        return to_csv(lines) if style == "csv" else to_json(lines)
    page = style_of(style)
    return page.join([text for table in suite_tables(filled) for text in _texts(table, page)])


def _texts(table: SuiteTable, page: Page) -> list[str]:
    texts = [_Writer(table, page).text()]
    if any(row.controls for row in table.rows if row.records):
        texts.append(_controls(table, page))
    return texts


class _Writer:
    """Writes one table: header, lines, notes."""

    def __init__(self, table: SuiteTable, page: Page) -> None:
        self._table = table
        self._page = page
        self._references = References()
        printed = [row.published(table.protocol, clean) for row in table.rows for clean in (True, False)]
        known = {metric for found in printed for metric in found} if table.real else set()
        self._printed = [metric for metric in METRICS if metric in known]

    def text(self) -> str:
        table, page = self._table, self._page
        head = ["victim" if table.suite.across else "attack"]
        head += ["verdict"] if table.level == "feature" else []
        sides = ["left"] * len(head)
        for metric in METRICS:
            head += [HEADINGS[metric], *(["published"] if metric in self._printed else [])]
        head += ["ASR", "gradient evaluations", "s"]
        sides += ["right"] * (len(head) - len(sides))
        lines = [] if table.suite.across else [self._clean()]
        lines += [self._line(row) for row in table.rows]
        cells = [[page.escape(cell) for cell in line] for line in lines]
        header = [page.escape(name) for name in (*head, "run")]
        slug = [table.suite.name, table.level, table.victim, table.protocol]
        return page.table(header, cells, [*sides, "left"], _title(table), slug, self._notes())

    def _clean(self) -> list[str]:
        row = self._table.clean
        figures = row.figures.before if row else {}
        printed = self._table.rows[0].published(self._table.protocol, clean=True)
        cells = ["clean", *([""] if self._table.level == "feature" else [])]
        for metric in METRICS:
            cells.append(f"{figures[metric]:.1f}" if row else "not run" if metric == METRICS[0] else "")
            cells += self._beside(metric, printed)
        return [*cells, "", "", "", ""]

    def _line(self, row: SuiteRow) -> list[str]:
        cells = [row.name]
        if self._table.level == "feature":
            cells.append(row.verdict if not row.state else "")
        attacked = row.published(self._table.protocol)
        before = row.published(self._table.protocol, clean=True) if self._table.suite.across else {}
        for metric in METRICS:
            state = row.state if metric == METRICS[0] else ""
            cells.append(state if row.state else self._figure(row, metric))
            cells += (
                self._beside(metric, before, attacked)
                if self._table.suite.across
                else self._beside(metric, attacked)
            )
        if row.state:
            return [*cells, "", "", "", row.label]
        found = row.figures
        asr = "" if found.asr is None else f"{found.asr:.1f}"
        return [*cells, asr, found.evaluations, f"{found.seconds:.1f}", row.label]

    def _figure(self, row: SuiteRow, metric: str) -> str:
        spread = row.spread(metric)
        after = f"{row.figures.after[metric]:.1f}" + ("" if spread is None else f" ± {spread:.1f}")
        return f"{row.figures.before[metric]:.1f} → {after}" if self._table.suite.across else after

    def _beside(self, metric: str, *printed: Mapping[str, Published]) -> list[str]:
        if metric not in self._printed:
            return []
        figures = [self._references.figures([found[metric]]) if metric in found else "" for found in printed]
        return [" → ".join(figures) if any(figures) else ""]

    def _notes(self) -> list[str]:
        table = self._table
        notes = [row.remark for row in table.rows if row.remark]
        notes += table.suite.notes
        sources = self._references.notes()
        if sources:
            notes.append("Published, as printed (settings are the source's own): " + "; ".join(sources))
            without = [row.name for row in table.rows if not row.published(table.protocol)]
            notes += [f"No published figure is known for {', '.join(without)}."] if without else []
            notes += [_EITHER] if table.levelled else []
            notes += (
                ["Published on RegDB is the mean of ten splits; not all are here."] if table.partial else []
            )
        return notes


def _title(table: SuiteTable) -> str:
    badge = "" if table.real else "SYNTHETIC "
    parts = [f"{badge}paper {table.suite.name}: {table.suite.title}"]
    parts += [table.victim] if table.victim else []
    parts += [_LEVELS[table.level]] if table.levelled else []
    parts.append(f"{table.protocol} ({_extent(table)})")
    parts.append(budget(dict(table.place.threat)))
    figures = "before → after, %" if table.suite.across else "after the attack, %"
    if table.seeds > 1:
        figures += f", mean ± sd over {table.seeds} seeds"
    elif len(table.splits) > 1:
        figures += f", mean ± sd over {len(table.splits)} splits"
    return "; ".join([*parts, figures])


def _extent(table: SuiteTable) -> str:
    if table.protocol != table.place.protocol:
        numbers = [split.rpartition("-")[2] for split in table.splits]
        return f"split{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"
    return f"{table.place.trials} trial{'s' if table.place.trials != 1 else ''}"


def _controls(table: SuiteTable, page: Page) -> str:
    rows = [row for row in table.rows if row.records and row.controls]
    names = list(dict.fromkeys(control.attack for row in rows for control in row.controls))
    lines = []
    for row in rows:
        found = {control.attack: control for control in row.controls}
        figures = [f"{found[name].after['r1']:.1f}" if name in found else "" for name in names]
        own = [row.name, f"{row.figures.before['r1']:.1f}", f"{row.figures.after['r1']:.1f}"]
        lines.append([page.escape(cell) for cell in (*own, *figures)])
    header = ["victim" if table.suite.across else "attack", "clean", "attacked", *names]
    title = f"{'' if table.real else 'SYNTHETIC '}controls of paper {table.suite.name} at feature level"
    title += f"; {table.victim}" if table.victim else ""
    sides = ["left", *["right"] * (len(header) - 1)]
    slug = ["controls", table.suite.name, table.victim, table.protocol]
    escaped = [page.escape(name) for name in header]
    return page.table(escaped, lines, sides, f"{title}; {table.protocol}; Rank-1, %", slug, [])
