"""The paper's tables, filled with records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean, stdev

from vbench.core.threat import budget_text
from vbench.records.record import Record
from vbench.reports.frame import flat
from vbench.reports.published import Published, References, printed_by
from vbench.reports.rows import HEADINGS, METRICS, Row, budget, rows_of
from vbench.reports.table import Column, Table, simple, write
from vbench.sweep.paper import SPLITS, Line, Place, Slot, Suite, question


@dataclass(frozen=True)
class SuiteRow:
    """One row of a suite's table: an attack on a victim, over its seeds and, on RegDB, its splits."""

    suite: Suite
    line: Line
    victim: str
    slots: tuple[Slot, ...]

    @cached_property
    def records(self) -> list[Record]:
        """The records of its runs."""
        return [one.record for one in self.slots if one.record is not None]

    @property
    def state(self) -> str:
        """ "" if there are results; else "failed", "n/a" (does not apply) or "not run"."""
        if any(one.failed for one in self.slots):
            return "failed"
        if any(one.unfit for one in self.slots):
            return "n/a"
        return "" if self.records else "not run"

    @property
    def remark(self) -> str:
        """Why a row lacks results of some or all of its runs; empty if it is complete."""
        for one in self.slots:
            if one.failed or one.unfit:
                what = "failed" if one.failed else "does not apply"
                run = f" with seed {one.seed} on {one.place.protocol}" if self._several else ""
                return f"{self.name} {what}{run}: {one.failed or one.unfit}"
        missing = len(self.slots) - len(self.records)
        return f"{self.name}: {missing} of {len(self.slots)} runs are not done" if missing else ""

    @property
    def name(self) -> str:
        """The victim if rows are victims, else the row's name in the paper."""
        return self.victim if self.suite.across else self.line.name

    @property
    def label(self) -> str:
        """The attack with its settings."""
        return next((one.label for one in self.slots if one.label), "")

    @property
    def verdict(self) -> str:
        """Whether the tampered system keeps its clean Rank-1."""
        known = [record.stealthy for record in self.records if record.stealthy is not None]
        if not known:
            return "no modules: as at pixel level"
        if all(known) or not any(known):
            return "stealthy" if known[0] else "destructive"
        return f"stealthy in {sum(known)} of {len(known)}"

    @cached_property
    def means(self) -> Row:
        """Means over the records; there must be some."""
        return rows_of(self.records)[0]

    @cached_property
    def controls(self) -> list[Row]:
        """Means of the controls over the records."""
        return [row for row in rows_of(self.records)[1:] if row.control]

    def spread(self, metric: str) -> float | None:
        """Standard deviation in percent points over seeds, or over splits for one seed; None for one run."""
        grouped: dict[object, list[float]] = {}
        seeds = {record.config["seed"] for record in self.records}
        for record in self.records:
            key = record.config["seed"] if len(seeds) > 1 else record.protocol
            grouped.setdefault(key, []).append(100 * record.mean("adversarial", metric))
        return stdev(map(mean, grouped.values())) if len(grouped) > 1 else None

    def published(self, protocol: str, clean: bool = False) -> Mapping[str, Published]:
        """Metric -> the published value of this row, or of its clean victim."""
        attack = "" if clean else self.line.published
        if not self.suite.source or not (clean or attack):
            return {}
        return printed_by(self.suite.source, self.victim.partition("[")[0], attack, protocol)

    @property
    def _several(self) -> bool:
        return len(self.slots) > 1


@dataclass(frozen=True)
class SuiteTable:
    """The rows of one suite, level and protocol; of one victim, unless rows are victims."""

    suite: Suite
    level: str
    victim: str
    place: Place
    protocol: str
    splits: tuple[str, ...]
    seeds: int
    rows: tuple[SuiteRow, ...]

    @property
    def levelled(self) -> bool:
        """Whether any row depends on the level."""
        return any(row.line.levelled for row in self.rows)

    @property
    def real(self) -> bool:
        """Whether the data are real, so that published values may be shown."""
        return not self.place.synthetic

    @property
    def clean(self) -> SuiteRow | None:
        """A row with records, for the clean results of the victim; None if there is none."""
        return next((row for row in self.rows if row.records), None)

    @property
    def partial(self) -> bool:
        """Whether some of RegDB's splits are missing; published values are means over all ten."""
        return self.protocol != self.place.protocol and len(self.splits) < SPLITS


def suite_tables(slots: Sequence[Slot]) -> list[SuiteTable]:
    """The tables of the slots, in the order of suites; RegDB's splits of one direction share a table."""
    grouped: dict[tuple[str, str, str, str, tuple[tuple[str, object], ...]], list[Slot]] = {}
    for slot in slots:
        victim = "" if slot.suite.across else slot.victim
        key = (slot.suite.name, slot.level, victim, question(slot.place.protocol), slot.place.threat)
        grouped.setdefault(key, []).append(slot)
    order = list(dict.fromkeys(one.suite.name for one in slots))
    # Tables of one suite follow each other, whatever the order of the runs.
    ordered = sorted(grouped.items(), key=lambda item: order.index(item[0][0]))
    return [_table(victim, protocol, same) for (_, _, victim, protocol, _), same in ordered]


def _table(victim: str, protocol: str, slots: Sequence[Slot]) -> SuiteTable:
    first = slots[0]
    rows: dict[tuple[str, str], list[Slot]] = {}
    for one in slots:
        rows.setdefault((one.victim, one.line.name), []).append(one)
    return SuiteTable(
        first.suite,
        first.level,
        victim,
        first.place,
        protocol,
        tuple(dict.fromkeys(one.place.protocol for one in slots)),
        len({one.seed for one in slots}),
        tuple(SuiteRow(first.suite, same[0].line, name, tuple(same)) for (name, _), same in rows.items()),
    )


def flat_rows(slots: Sequence[Slot]) -> list[dict[str, object]]:
    """One row per run: suite, row, state and reason, then the columns of a record, if there is one.

    On real data also ``{metric}_published``, and ``{metric}_published_before`` for the clean victim.
    """
    lines = []
    for table in suite_tables(slots):
        for row in table.rows:
            printed: dict[str, object] = {}
            if table.real:
                for ending, clean in (("_before", True), ("", False)):
                    found = row.published(table.protocol, clean).values()
                    printed |= {f"{one.metric}_published{ending}": one.value / 100 for one in found}
            lines += [{**_description(one), **printed} for one in row.slots]
    return lines


def _description(slot: Slot) -> dict[str, object]:
    state = "failed" if slot.failed else "n/a" if slot.unfit else "done" if slot.record else "not run"
    return {
        "suite": slot.suite.name,
        "row": slot.line.name,
        "table_level": slot.level,
        "state": state,
        "reason": slot.failed or slot.unfit,
        "victim": slot.victim,
        "attack": slot.label,
        "protocol": slot.place.protocol,
        "synthetic": slot.place.synthetic,
        "eps": budget_text(dict(slot.place.threat)),
        "seed": slot.seed,
        **(flat([slot.record])[0] if slot.record else {}),
    }


_LEVELS = {
    "pixel": "pixel level: x + d, victim unmodified",
    "feature": "feature level: the modules stay inside the attacked side",
}

_TEN = "Published on RegDB is the mean of ten splits; not all are here."

_EITHER = "The source does not say at which level it measured; its values are shown at both."


def paper_report(slots: Sequence[Slot], style: str = "plain") -> str:
    """Every table of the slots, as "plain", "markdown" or "latex" text; "csv" and "json" have a row per run.

    One table per suite, level, victim and protocol (systems: victims are rows). Values are percent, mean over
    trials, splits and seeds. On real data, published values of the same protocol are next to them. Notes give
    the reason for missing results. Raises BadInput for an unknown style.
    """
    if style in ("csv", "json"):
        return write([Table("", "", (), (), flat=lambda: flat_rows(slots))], style)
    return write([one for table in suite_tables(slots) for one in _tables(table)], style)


def _tables(table: SuiteTable) -> list[Table]:
    found = [_Writer(table).table()]
    if any(row.controls for row in table.rows if row.records):
        found.append(_controls(table))
    return found


class _Writer:
    """Writes one table: header, lines, notes."""

    def __init__(self, table: SuiteTable) -> None:
        self._table = table
        self._references = References()
        printed = [row.published(table.protocol, clean) for row in table.rows for clean in (True, False)]
        known = {metric for found in printed for metric in found} if table.real else set()
        self._printed = [metric for metric in METRICS if metric in known]

    def table(self) -> Table:
        table = self._table
        columns = [Column("victim" if table.suite.across else "attack")]
        columns += [Column("verdict")] if table.level == "feature" else []
        for metric in METRICS:
            columns.append(Column(HEADINGS[metric], True))
            columns += [Column("published", True)] if metric in self._printed else []
        columns += [Column(head, True) for head in ("ASR", "gradient evaluations", "s")]
        lines = [] if table.suite.across else [self._clean()]
        lines += [self._line(row) for row in table.rows]
        anchor = " ".join([table.suite.name, table.level, table.victim, table.protocol])
        return simple(_title(table), [*columns, "run"], lines, anchor, notes=self._notes())

    def _clean(self) -> list[str]:
        row = self._table.clean
        clean = row.means.before if row else {}
        printed = self._table.rows[0].published(self._table.protocol, clean=True)
        cells = ["clean", *([""] if self._table.level == "feature" else [])]
        for metric in METRICS:
            cells.append(f"{clean[metric]:.1f}" if row else "not run" if metric == METRICS[0] else "")
            cells += self._published(metric, printed)
        return [*cells, "", "", "", ""]

    def _line(self, row: SuiteRow) -> list[str]:
        cells = [row.name]
        if self._table.level == "feature":
            cells.append(row.verdict if not row.state else "")
        attacked = row.published(self._table.protocol)
        before = row.published(self._table.protocol, clean=True) if self._table.suite.across else {}
        for metric in METRICS:
            state = row.state if metric == METRICS[0] else ""
            cells.append(state if row.state else self._value(row, metric))
            cells += (
                self._published(metric, before, attacked)
                if self._table.suite.across
                else self._published(metric, attacked)
            )
        if row.state:
            return [*cells, "", "", "", row.label]
        found = row.means
        asr = "" if found.asr is None else f"{found.asr:.1f}"
        return [*cells, asr, found.evaluations, f"{found.seconds:.1f}", row.label]

    def _value(self, row: SuiteRow, metric: str) -> str:
        spread = row.spread(metric)
        after = f"{row.means.after[metric]:.1f}" + ("" if spread is None else f" ± {spread:.1f}")
        return f"{row.means.before[metric]:.1f} → {after}" if self._table.suite.across else after

    def _published(self, metric: str, *printed: Mapping[str, Published]) -> list[str]:
        if metric not in self._printed:
            return []
        values = [self._references.figures([found[metric]]) if metric in found else "" for found in printed]
        return [" → ".join(values) if any(values) else ""]

    def _notes(self) -> list[str]:
        table = self._table
        notes = [row.remark for row in table.rows if row.remark]
        notes += table.suite.notes
        sources = self._references.notes()
        if sources:
            notes.append("Published, as printed (settings are the source's own): " + "; ".join(sources))
            without = [row.name for row in table.rows if not row.published(table.protocol)]
            notes += [f"No published value is known for {', '.join(without)}."] if without else []
            notes += [_EITHER] if table.levelled else []
            notes += [_TEN] if table.partial else []
        return notes


def _title(table: SuiteTable) -> str:
    badge = "" if table.real else "SYNTHETIC "
    parts = [f"{badge}paper {table.suite.name}: {table.suite.title}"]
    parts += [table.victim] if table.victim else []
    parts += [_LEVELS[table.level]] if table.levelled else []
    parts.append(f"{table.protocol} ({_extent(table)})")
    parts.append(budget(dict(table.place.threat)))
    values = "before → after, %" if table.suite.across else "after the attack, %"
    if table.seeds > 1:
        values += f", mean ± sd over {table.seeds} seeds"
    elif len(table.splits) > 1:
        values += f", mean ± sd over {len(table.splits)} splits"
    return "; ".join([*parts, values])


def _extent(table: SuiteTable) -> str:
    if table.protocol != table.place.protocol:
        numbers = [split.rpartition("-")[2] for split in table.splits]
        return f"split{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"
    return f"{table.place.trials} trial{'s' if table.place.trials != 1 else ''}"


def _controls(table: SuiteTable) -> Table:
    rows = [row for row in table.rows if row.records and row.controls]
    names = list(dict.fromkeys(control.attack for row in rows for control in row.controls))
    lines = []
    for row in rows:
        found = {control.attack: control for control in row.controls}
        values = [f"{found[name].after['r1']:.1f}" if name in found else "" for name in names]
        own = [row.name, f"{row.means.before['r1']:.1f}", f"{row.means.after['r1']:.1f}"]
        lines.append([*own, *values])
    columns = [Column(name, True) for name in ("clean", "attacked", *names)]
    title = f"{'' if table.real else 'SYNTHETIC '}controls of paper {table.suite.name} at feature level"
    title += f"; {table.victim}" if table.victim else ""
    return simple(
        f"{title}; {table.protocol}; Rank-1, %",
        ["victim" if table.suite.across else "attack", *columns],
        lines,
        " ".join(["controls", table.suite.name, table.victim, table.protocol]),
    )
