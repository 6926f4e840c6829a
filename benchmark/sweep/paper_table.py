"""The paper's tables, filled with records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, mean, stdev

from vbench.core.threat import budget_text
from vbench.records.record import Record
from vbench.reports.frame import flat
from vbench.reports.published import Published, References, printed_by
from vbench.reports.rows import (
    HEADINGS,
    METRICS,
    RANDOM,
    Row,
    budget,
    chance_columns,
    idle,
    random_order,
    rows_of,
    verdict_of,
)
from vbench.reports.table import Column, Table, simple, write
from vbench.sweep.paper import Slot, expand, question


def paper_report(
    slots: Sequence[Slot], style: str = "plain", chance: bool = False, wide: bool = False
) -> str:
    """Every table of the slots, as "plain", "markdown" or "latex" text; "csv" and "json" have a row per run.

    One table per suite, level, victim and protocol (systems: victims are rows); RegDB's splits of one
    direction share a table. Values are percent, mean over trials, splits and seeds. On real data, published
    values of the same protocol are next to them. ``chance``: add the row of a random order; ``wide``: plain
    text with all columns. Notes give the reason for missing results. Raises BadInput for an unknown style.
    """
    order = list(dict.fromkeys(one.suite.name for one in slots))
    grouped: dict[tuple[object, ...], list[Slot]] = {}
    # Tables of one suite follow each other, whatever the order of the runs.
    for one in sorted(slots, key=lambda slot: order.index(slot.suite.name)):
        victim = "" if one.suite.across else one.victim
        key = (one.suite.name, one.level, victim, question(one.place.protocol), one.place.threat)
        grouped.setdefault(key, []).append(one)
    tables = [SuiteTable(same, chance) for same in grouped.values()]
    if style in ("csv", "json"):
        lines = [line for table in tables for line in table.flat()]
        return write([Table("", "", (), (), flat=lambda: lines)], style)
    return write([one for table in tables for one in table.tables()], style, wide)


@dataclass(frozen=True)
class SuiteRow:
    """One row of a suite's table: an attack on a victim, over its seeds and, on RegDB, its splits."""

    slots: Sequence[Slot]

    @cached_property
    def records(self) -> list[Record]:
        """The records of its runs."""
        return [one.record for one in self.slots if one.record is not None]

    @property
    def state(self) -> str:
        """ "" if there are results; else "failed", "n/a" (does not apply) or "not run"."""
        states = [one.state for one in self.slots]
        return next((one for one in ("failed", "n/a") if one in states), "" if self.records else "not run")

    @property
    def remark(self) -> str:
        """Why a row lacks results of some or all of its runs; empty if it is complete."""
        for one in self.slots:
            if one.reason:
                what = "failed" if one.spec else "does not apply"
                run = f" with seed {one.seed} on {one.place.protocol}" if len(self.slots) > 1 else ""
                return f"{self.name} {what}{run}: {one.reason}"
        missing = len(self.slots) - len(self.records)
        return f"{self.name}: {missing} of {len(self.slots)} runs are not done" if missing else ""

    @property
    def name(self) -> str:
        """The victim if rows are victims, else the row's name in the paper."""
        return self.slots[0].victim if self.slots[0].suite.across else self.slots[0].line.name

    @property
    def verdict(self) -> str:
        """What became of the victim that the attacker changed."""
        return verdict_of(self.records) or "no modules: as at pixel level"

    @property
    def label(self) -> str:
        """The attack with its settings, and whether its loss had no effect."""
        named = next((one.label for one in self.slots if one.label), "")
        return ", ".join([named, *idle(self.records)])

    @cached_property
    def means(self) -> Row:
        """Means over the records; there must be some."""
        return rows_of(self.records)[0]

    @cached_property
    def controls(self) -> dict[str, Row]:
        """Means of the controls over the records, by name."""
        return {row.attack: row for row in rows_of(self.records)[1:] if row.control}

    def value(self, metric: str) -> str:
        """The mean after the attack, with its standard deviation over seeds, or over splits for one seed."""
        grouped: dict[object, list[float]] = {}
        seeds = {record.config["seed"] for record in self.records}
        for record in self.records:
            key = record.config["seed"] if len(seeds) > 1 else record.protocol
            grouped.setdefault(key, []).append(100 * record.mean("adversarial", metric))
        spread = f" ± {stdev(map(mean, grouped.values())):.1f}" if len(grouped) > 1 else ""
        return f"{self.means.after[metric]:.1f}{spread}"

    def published(self, clean: bool = False) -> Mapping[str, Published]:
        """Metric -> the published value of this row, or of its clean victim; empty for synthetic data."""
        one = self.slots[0]
        attack = "" if clean else one.line.published
        if one.place.synthetic or not one.suite.source or not (clean or attack):
            return {}
        victim, protocol = one.victim.partition("[")[0], question(one.place.protocol)
        return printed_by(one.suite.source, victim, attack, protocol)


_LEVELS = {
    "pixel": "pixel level: x + d, victim unmodified",
    "feature": "feature level: the modules stay inside the attacked side",
    "model": "model level: all images through the attacker's weights and modules; x + d on the attacked side",
}

_TEN = "Published on RegDB is the mean of ten splits; not all are here."

_EITHER = "The source does not say at which level it measured; its values are shown at each."


class SuiteTable:
    """The rows of one suite, level and protocol; of one victim, unless rows are victims."""

    def __init__(self, slots: Sequence[Slot], chance: bool = False) -> None:
        first = slots[0]
        self._chance, self._preset = chance, first.preset
        self._suite, self._level, self._place = first.suite, first.level, first.place
        self._victim = "" if first.suite.across else first.victim
        self._protocol = question(first.place.protocol)
        self._splits = list(dict.fromkeys(one.place.protocol for one in slots))
        self._seeds = len({one.seed for one in slots})
        self._levelled = any(one.line.levelled for one in slots)
        rows: dict[tuple[str, str], list[Slot]] = {}
        for one in slots:
            rows.setdefault((one.victim, one.line.name), []).append(one)
        self._rows = [SuiteRow(same) for same in rows.values()]
        self._references = References()
        known = {metric for row in self._rows for clean in (True, False) for metric in row.published(clean)}
        self._printed = [metric for metric in METRICS if metric in known]

    def flat(self) -> list[dict[str, object]]:
        """One row per run: suite, row, state and reason, then the columns of a record, if there is one.

        On real data also ``{metric}_published``, and ``{metric}_published_before`` for the clean victim.
        """
        lines = []
        for row in self._rows:
            printed = {
                f"{one.metric}_published{ending}": one.value / 100
                for ending, clean in (("_before", True), ("", False))
                for one in row.published(clean).values()
            }
            lines += [{**_description(one, self._chance), **printed} for one in row.slots]
        return lines

    def tables(self) -> list[Table]:
        """The table, and one of controls if there are some."""
        columns = [Column("victim" if self._suite.across else "attack")]
        columns += [Column("verdict")] if self._level != "pixel" else []
        for metric in METRICS:
            spare = 1 if metric == METRICS[-1] else 0
            columns.append(Column(HEADINGS[metric], True, spare=spare))
            columns += [Column("published", True, spare=spare)] if metric in self._printed else []
        columns += [Column("ASR", True), Column("gradients", True, spare=2), Column("s", True, spare=3)]
        lines = [] if self._suite.across else [self._clean()]
        lines += self._random() if self._chance else []
        lines += [self._line(row) for row in self._rows]
        anchor = " ".join([self._suite.name, self._level, self._victim, self._protocol])
        found = simple(self._title(), [*columns, Column("run", spare=4)], lines, anchor, notes=self._notes())
        return [found, *self._controls()]

    def _clean(self) -> list[str]:
        row = next((row for row in self._rows if row.records), None)
        clean = {metric: f"{row.means.before[metric]:.1f}" for metric in METRICS} if row else None
        return [*self._cells("clean", "", clean or "not run", self._rows[0].published(True)), *[""] * 4]

    def _random(self) -> list[list[str]]:
        records = [record for row in self._rows for record in row.records]
        shown = [{metric: f"{row.after[metric]:.1f}" for metric in METRICS} for row in random_order(records)]
        return [[*self._cells(RANDOM, "", one), *[""] * 4] for one in shown]

    def _line(self, row: SuiteRow) -> list[str]:
        printed, across = [row.published()], self._suite.across
        if across:
            printed.insert(0, row.published(True))
        if row.state:
            return [*self._cells(row.name, "", row.state, *printed), "", "", "", row.label]
        found = row.means
        shown = {
            metric: f"{found.before[metric]:.1f} → {row.value(metric)}" if across else row.value(metric)
            for metric in METRICS
        }
        asr = "" if found.asr is None else f"{found.asr:.1f}"
        cells = self._cells(row.name, row.verdict, shown, *printed)
        return [*cells, asr, found.evaluations, f"{found.seconds:.1f}", row.label]

    def _cells(
        self, name: str, verdict: str, shown: Mapping[str, str] | str, *printed: Mapping[str, Published]
    ) -> list[str]:
        """The first cells of a line; a text in place of values says why there are none."""
        cells = [name, verdict] if self._level != "pixel" else [name]
        for metric in METRICS:
            cells.append((shown if metric == METRICS[0] else "") if isinstance(shown, str) else shown[metric])
            if metric in self._printed:
                values = [self._references.figures([one[metric]]) if metric in one else "" for one in printed]
                cells.append(" → ".join(values) if any(values) else "")
        return cells

    def _notes(self) -> list[str]:
        notes = [row.remark for row in self._rows if row.remark]
        notes += self._suite.notes
        sources = self._references.notes()
        if sources:
            notes.append("Published, as printed (settings are the source's own): " + "; ".join(sources))
            without = [row.name for row in self._rows if not row.published()]
            notes += [f"No published value is known for {', '.join(without)}."] if without else []
            notes += [_EITHER] if self._levelled else []
            notes += [_TEN] if self._is_split and len(self._splits) < len(expand([self._protocol])) else []
        return notes

    @property
    def _is_split(self) -> bool:
        return self._protocol != self._place.protocol

    def _title(self) -> str:
        parts = [f"{self._badge}paper {self._suite.name}: {self._suite.title}"]
        parts += [self._victim] if self._victim else []
        parts += [_LEVELS[self._level], f"fsam_uap with preset {self._preset}"] if self._levelled else []
        extent = f"{self._place.trials} trial{'s' if self._place.trials != 1 else ''}"
        if self._is_split:
            numbers = [split.rpartition("-")[2] for split in self._splits]
            extent = f"split{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"
        parts.append(f"{self._protocol} ({extent})")
        parts.append(budget(dict(self._place.threat)))
        values = "before → after, %" if self._suite.across else "after the attack, %"
        if self._seeds > 1:
            values += f", mean ± sd over {self._seeds} seeds"
        elif len(self._splits) > 1:
            values += f", mean ± sd over {len(self._splits)} splits"
        return "; ".join([*parts, values])

    @property
    def _badge(self) -> str:
        return "SYNTHETIC " if self._place.synthetic else ""

    def _controls(self) -> list[Table]:
        rows = [row for row in self._rows if row.records and row.controls]
        if not rows:
            return []
        names = list(dict.fromkeys(name for row in rows for name in row.controls))
        lines = []
        for row in rows:
            values = [
                f"{row.controls[name].after['r1']:.1f}" if name in row.controls else "" for name in names
            ]
            lines.append([row.name, f"{row.means.before['r1']:.1f}", f"{row.means.after['r1']:.1f}", *values])
        title = f"{self._badge}controls of paper {self._suite.name} at {self._level} level"
        title += f"; {self._victim}" if self._victim else ""
        columns = [Column(name, True) for name in ("clean", "attacked", *names)]
        first = "victim" if self._suite.across else "attack"
        anchor = " ".join(["controls", self._suite.name, self._victim, self._protocol])
        return [simple(f"{title}; {self._protocol}; Rank-1, %", [first, *columns], lines, anchor)]


def _description(slot: Slot, chance: bool) -> dict[str, object]:
    return {
        "suite": slot.suite.name,
        "row": slot.line.name,
        "table_level": slot.level,
        "state": slot.state,
        "reason": slot.reason,
        "victim": slot.victim,
        "attack": slot.label,
        "protocol": slot.place.protocol,
        "synthetic": slot.place.synthetic,
        "eps": budget_text(dict(slot.place.threat)),
        "seed": slot.seed,
        "preset": slot.preset if slot.line.levelled else "",
        **(_results(slot.record, chance) if slot.record else {}),
    }


def _results(record: Record, chance: bool) -> dict[str, object]:
    """The flat row of a record, with what tells readings of the paper apart."""
    return {
        **flat([record], more=chance_columns([record]) if chance else None)[0],
        "verdict": verdict_of([record]),
        "active_triples": record.fit_log.get("active_triples"),
        **{f"r1 of {one.name}": fmean(trial.r1 for trial in one.trials) for one in record.controls},
    }
