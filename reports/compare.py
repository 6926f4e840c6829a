"""Attacks against victims in one table: a row an attack, a column a victim, from records alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from vbench.errors import unknown_name
from vbench.record import Record
from vbench.reports.flat import to_csv, to_json
from vbench.reports.rows import HEADINGS, Setting, setting
from vbench.reports.style import Page, style_of


@dataclass(frozen=True)
class Cell:
    """A metric after the attack, percent: mean over seeds and its standard deviation (None for one seed)."""

    value: float
    spread: float | None
    seeds: int


def cells(records: Sequence[Record], metric: str) -> dict[tuple[str, str], Cell]:
    """(attack, victim) -> cell, for records of one setting, in the order they come."""
    found: dict[tuple[str, str], list[float]] = {}
    for record in records:
        key = (record.label, _victim(record))
        found.setdefault(key, []).append(100 * record.mean("adversarial", metric))
    return {
        key: Cell(mean(values), stdev(values) if len(values) > 1 else None, len(values))
        for key, values in found.items()
    }


def comparison(records: Sequence[Record], metric: str = "r1", style: str = "markdown") -> str:
    """One table a setting: ``metric`` after each attack, percent, mean ± sd over seeds; lowest in bold.

    The first row is the victims' clean figure. Records of different protocols, budgets, sides or data never
    share a table; attacks crafted on a surrogate have one of their own. "csv" and "json" have a row a cell,
    unrounded, in [0, 1]. Raises BadInput for an unknown metric or format.
    """
    if metric not in HEADINGS:
        raise unknown_name("metric", metric, HEADINGS)
    grouped: dict[tuple[Setting, str], list[Record]] = {}
    for record in records:
        grouped.setdefault((setting(record), record.surrogate), []).append(record)
    if style in ("csv", "json"):
        lines = [line for (where, _), same in grouped.items() for line in _flat(where, same, metric)]
        return to_csv(lines) if style == "csv" else to_json(lines)
    page = style_of(style)
    return page.join(
        [_table(where, same, metric, page, style != "plain") for (where, _), same in grouped.items()]
    )


def _flat(where: Setting, records: Sequence[Record], metric: str) -> list[dict[str, object]]:
    first, clean = records[0], _clean(records, metric)
    shared = {
        "protocol": where.protocol,
        "synthetic": where.synthetic,
        "data": f"{where.data} {where.fingerprint}",
        "budget": where.threat,
        "trials": where.trials,
        "surrogate": first.surrogate,
        "metric": metric,
    }
    return [
        {
            **shared,
            "attack": attack,
            "victim": victim,
            "clean": clean[victim] / 100,
            "attacked": cell.value / 100,
            "sd": None if cell.spread is None else cell.spread / 100,
            "seeds": cell.seeds,
        }
        for (attack, victim), cell in cells(records, metric).items()
    ]


def _table(where: Setting, records: Sequence[Record], metric: str, page: Page, bold: bool) -> str:
    found, clean = cells(records, metric), _clean(records, metric)
    attacks = list(dict.fromkeys(attack for attack, _ in found))
    lowest = {victim: min(cell.value for (_, of), cell in found.items() if of == victim) for victim in clean}
    lines = [["(clean)", *(f"{value:.1f}" for value in clean.values())]]
    for attack in attacks:
        best = [lowest[victim] if bold else None for victim in clean]
        row = [found.get((attack, victim)) for victim in clean]
        shown = [_shown(cell, least, page) for cell, least in zip(row, best, strict=True)]
        lines.append([page.escape(attack), *shown])
    sides = ["left", *["right"] * len(clean)]
    header = [page.escape(name) for name in ("attack", *clean)]
    surrogate = records[0].surrogate
    crafted = f" crafted on {surrogate}" if surrogate else ""
    title = f"{where.title}; {HEADINGS[metric]} after the attack{crafted}, %"
    slug = ("compare", where.protocol, where.threat, surrogate, metric)
    return page.table(header, lines, sides, title, slug, ())


def _clean(records: Sequence[Record], metric: str) -> dict[str, float]:
    """Victim -> its clean figure, percent, mean over the records."""
    values: dict[str, list[float]] = {}
    for record in records:
        values.setdefault(_victim(record), []).append(100 * record.mean("clean", metric))
    return {victim: mean(found) for victim, found in values.items()}


def _shown(cell: Cell | None, lowest: float | None, page: Page) -> str:
    if cell is None:
        return ""
    text = f"{cell.value:.1f}" if cell.spread is None else f"{cell.value:.1f} ± {cell.spread:.1f}"
    return page.strong(page.escape(text), cell.value == lowest)


def _victim(record: Record) -> str:
    return record.victim_label or record.config["victim"]["name"]
