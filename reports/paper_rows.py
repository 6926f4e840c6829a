"""From the filled slots of suites to tables: which rows stand together, and what became of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean, stdev

from vbench.paper.protocols import SPLITS, question
from vbench.paper.slot import Filled, Place
from vbench.paper.suite import Line, Suite
from vbench.record import Record
from vbench.reports.published import Published, printed_by
from vbench.reports.rows import Row, rows_of


@dataclass(frozen=True)
class SuiteRow:
    """One row of a suite's table: an attack on a victim, over its seeds and, on RegDB, its splits."""

    suite: Suite
    line: Line
    victim: str
    filled: tuple[Filled, ...]

    @cached_property
    def records(self) -> list[Record]:
        """What was measured."""
        return [one.record for one in self.filled if one.record is not None]

    @property
    def state(self) -> str:
        """ "" where there are figures; else "failed", "n/a" (does not apply) or "not run"."""
        if any(one.failed for one in self.filled):
            return "failed"
        if any(one.slot.unfit for one in self.filled):
            return "n/a"
        return "" if self.records else "not run"

    @property
    def remark(self) -> str:
        """Why a row has no figures, or not those of all its runs; empty where nothing is missing."""
        for one in self.filled:
            if one.failed or one.slot.unfit:
                what = "failed" if one.failed else "does not apply"
                run = f" with seed {one.slot.seed} on {one.slot.place.protocol}" if self._several else ""
                return f"{self.name} {what}{run}: {one.failed or one.slot.unfit}"
        missing = len(self.filled) - len(self.records)
        return f"{self.name}: {missing} of {len(self.filled)} runs are not done" if missing else ""

    @property
    def name(self) -> str:
        """The victim where rows are victims, else what the paper calls the row."""
        return self.victim if self.suite.across else self.line.name

    @property
    def label(self) -> str:
        """The attack with its settings."""
        return next((one.slot.label for one in self.filled if one.slot.label), "")

    @property
    def verdict(self) -> str:
        """Whether a system that is tampered with keeps its clean Rank-1."""
        known = [record.stealthy for record in self.records if record.stealthy is not None]
        if not known:
            return "no modules: as at pixel level"
        if all(known) or not any(known):
            return "stealthy" if known[0] else "destructive"
        return f"stealthy in {sum(known)} of {len(known)}"

    @cached_property
    def figures(self) -> Row:
        """Means over the records; only where there are some."""
        return rows_of(self.records)[0]

    @cached_property
    def controls(self) -> list[Row]:
        """The controls, in the same way."""
        return [row for row in rows_of(self.records)[1:] if row.control]

    def spread(self, metric: str) -> float | None:
        """Standard deviation over seeds, in points; over splits where there is one seed, None for one run."""
        grouped: dict[object, list[float]] = {}
        seeds = {record.config["seed"] for record in self.records}
        for record in self.records:
            key = record.config["seed"] if len(seeds) > 1 else record.protocol
            grouped.setdefault(key, []).append(100 * record.mean("adversarial", metric))
        return stdev(map(mean, grouped.values())) if len(grouped) > 1 else None

    def published(self, protocol: str, clean: bool = False) -> Mapping[str, Published]:
        """Metric -> the figure that the paper prints for this row, or for its clean victim."""
        attack = "" if clean else self.line.published
        if not self.suite.source or not (clean or attack):
            return {}
        return printed_by(self.suite.source, self.victim.partition("[")[0], attack, protocol)

    @property
    def _several(self) -> bool:
        return len(self.filled) > 1


@dataclass(frozen=True)
class SuiteTable:
    """Rows of one suite at one level under one question; of one victim, unless rows are victims."""

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
        """Whether the level makes a difference here."""
        return any(row.line.levelled for row in self.rows)

    @property
    def real(self) -> bool:
        """Whether published figures may stand here."""
        return not self.place.synthetic

    @property
    def clean(self) -> SuiteRow | None:
        """A row whose records say what the victim is worth unattacked, None where nothing was measured."""
        return next((row for row in self.rows if row.records), None)

    @property
    def partial(self) -> bool:
        """Whether these are some of RegDB's splits, of which papers print the mean."""
        return self.protocol != self.place.protocol and len(self.splits) < SPLITS


def suite_tables(filled: Sequence[Filled]) -> list[SuiteTable]:
    """The tables of filled slots, in their order; RegDB's splits of one direction are one table."""
    grouped: dict[tuple[object, ...], list[Filled]] = {}
    for one in filled:
        slot = one.slot
        victim = "" if slot.suite.across else slot.victim
        key = (slot.suite.name, slot.level, victim, question(slot.place.protocol), slot.place.threat)
        grouped.setdefault(key, []).append(one)
    order = list(dict.fromkeys(one.slot.suite.name for one in filled))
    # A table of one suite below the other, whatever order the runs were done in.
    ranked = sorted(grouped.items(), key=lambda item: order.index(item[0][0]))
    return [_table(victim, protocol, same) for (_, _, victim, protocol, _), same in ranked]


def _table(victim: str, protocol: str, filled: Sequence[Filled]) -> SuiteTable:
    first = filled[0].slot
    rows: dict[tuple[str, str], list[Filled]] = {}
    for one in filled:
        rows.setdefault((one.slot.victim, one.slot.line.name), []).append(one)
    return SuiteTable(
        first.suite,
        first.level,
        victim,
        first.place,
        protocol,
        tuple(dict.fromkeys(one.slot.place.protocol for one in filled)),
        len({one.slot.seed for one in filled}),
        tuple(
            SuiteRow(first.suite, same[0].slot.line, whose, tuple(same)) for (whose, _), same in rows.items()
        ),
    )
