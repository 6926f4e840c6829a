"""The result tables of the page: the sheets of :mod:`vbench.reports.sheets`, to be sorted and filtered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from vbench.reports.change import change
from vbench.reports.full import shown_p
from vbench.reports.page.details import details
from vbench.reports.page.table import Cell, Column, Group, Table
from vbench.reports.rows import HEADINGS, Row, Setting, victim_key
from vbench.reports.sheets import Sheet, Versus, facts

#: The filters of the page: facet of a row -> label.
FILTERS = {
    "victim": "Victim",
    "attack": "Attack",
    "knowledge": "Knowledge",
    "protocol": "Protocol",
    "budget": "Budget",
    "data": "Data",
    "level": "Level",
}
_EVALUATIONS = "To learn once, or for each image; the column sorts by all of a run"
_SECONDS = "To learn and to attack, on the machine that did it"


@dataclass(frozen=True)
class Shown:
    """What the page was asked to show."""

    metrics: Sequence[str]
    versus: Versus | None = None


def result_tables(found: Sequence[Sheet], shown: Shown, queries: Mapping[str, str]) -> list[Table]:
    """A table a sheet; ``queries``: record id -> its name in the query explorer, for links to it."""
    victims = {(row.victim, victim_key(row.records[0])) for s in found for _, row in s.entries if row.records}
    names = [name for name, _ in victims]
    twins = {name for name in names if names.count(name) > 1}
    return [_table(f"table-{number}", sheet, shown, twins, queries) for number, sheet in enumerate(found, 1)]


def _table(anchor: str, sheet: Sheet, shown: Shown, twins: set[str], queries: Mapping[str, str]) -> Table:
    groups: list[Group] = []
    below: list[list[Cell]] = []
    for index, (where, row) in enumerate(sheet.entries):
        cells = _cells(index, where, row, sheet, shown, twins)
        if row.records:
            below = []
            groups.append(Group(_name(row), cells, below, _facets(where, row), details(row, queries)))
        else:
            below.append(cells)
    badges = ["SYNTHETIC"] if sheet.synthetic else []
    return Table(
        anchor, "; ".join(sheet.about), _columns(sheet, shown), groups, badges, sheet.legend, sheet.notes
    )


def _columns(sheet: Sheet, shown: Shown) -> list[Column]:
    columns = [Column("attack"), Column("victim"), Column("knowledge", hint="What the attacker knows")]
    columns += [Column(fact) for fact in sheet.differing]
    for metric in shown.metrics:
        if metric == "asr":
            columns.append(Column("ASR", True, "Share of clean Rank-1 queries that lose it, percent"))
        else:
            columns.append(Column(HEADINGS[metric], True, "Before → after, percent; sorts by after"))
            columns.append(Column(f"{HEADINGS[metric]} drop", True, "In points; in brackets relative"))
    columns += [Column("gradient evaluations", True, _EVALUATIONS), Column("s", True, _SECONDS)]
    if shown.versus:
        columns.append(Column(shown.versus.heading, True, "Corrected for the rows of this table"))
    return (
        [*columns, Column("published", hint="As its sources print it", prose=True)]
        if sheet.published
        else columns
    )


def _cells(index: int, where: Setting, row: Row, sheet: Sheet, shown: Shown, twins: set[str]) -> list[Cell]:
    weights = f"weights {row.records[0].config['victim']['weights'][:8]}" if row.victim in twins else ""
    attack = f"· {row.attack}" if row.control else row.attack
    seeds = f"{row.seeds} seeds" if row.seeds > 1 and not row.control else ""
    cells = [Cell(attack, small=seeds), Cell(row.victim, small=weights), Cell(row.knowledge)]
    cells += [Cell(facts(where)[fact]) for fact in sheet.differing]
    for metric in shown.metrics:
        cells += _figures(row, metric, index in sheet.bold[metric])
    spent = [record.cost.get("fit_evaluations", 0) + _attacking(record.cost) for record in row.records]
    priced = bool(row.evaluations)
    first, *more = row.evaluations.split(" + ")
    cells.append(Cell(first, mean(spent) if spent else None, "+ " + " + ".join(more) if more else ""))
    cells.append(Cell(f"{row.seconds:.1f}", row.seconds) if priced else Cell(""))
    if shown.versus:
        cells.append(Cell(shown_p(sheet.p[index]), sheet.p[index]))
    return [*cells, Cell(sheet.published[index])] if sheet.published else cells


def _attacking(cost: Mapping[str, float]) -> float:
    return cost.get("attack_evaluations", cost.get("evaluations_per_image", 0))


def _figures(row: Row, metric: str, bold: bool) -> list[Cell]:
    if metric == "asr":
        return [Cell("") if row.asr is None else Cell(f"{row.asr:.1f}", row.asr, strong=bold)]
    found = change(row, metric)
    spreads = [text for text in (found.clean_spread, found.attacked_spread) if text]
    drop = f"{found.drop} {found.relative}".strip()
    return [
        Cell(found.attacked, row.after[metric], " → ".join(spreads), bold, lead=f"{found.clean} → "),
        Cell(drop, row.before[metric] - row.after[metric], found.interval),
    ]


def _name(row: Row) -> str:
    return f"{row.attack} on {row.victim}"


def _facets(where: Setting, row: Row) -> dict[str, str]:
    first = row.records[0]
    return {
        "victim": row.victim,
        "attack": str(first.config["attack"]["name"]),
        "knowledge": row.knowledge,
        "protocol": where.protocol,
        "budget": where.threat,
        "data": "synthetic" if where.synthetic else "real",
        "level": first.level,
    }
