"""What the page says first: how much there is, and of every victim what is left by the strongest attacks."""

from __future__ import annotations

from collections.abc import Sequence

from vbench.record import Record
from vbench.reports.page.table import Cell, Column, Group, Table
from vbench.reports.rows import HEADINGS, Row, victim_key
from vbench.reports.sheets import Entry, facts

_METRICS = ("r1", "map")
_CAPTION = "What the strongest attacks leave"
_LEGEND = (
    "Strongest: the lowest Rank-1 after the attack among rows of the same knowledge. Which others tie with "
    "it stands in bold in the tables of results."
)


def counts(records: Sequence[Record], entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """(what, how many or which) of the page."""
    rows = [row for _, row in entries if row.records]
    days = sorted(record.created[:10] for record in records if record.created)
    return [
        ("runs", str(len(records))),
        ("rows", f"{len(rows)} (runs that differ in their seed alone are one)"),
        ("victims", _listed(row.victim for row in rows)),
        ("attacks", _listed(str(row.records[0].config["attack"]["name"]) for row in rows)),
        ("protocols", _listed(record.protocol for record in records)),
        ("seeds", _listed(str(record.config.get("seed")) for record in records)),
        *([("made", days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}")] if days else []),
    ]


def strongest(entries: Sequence[Entry]) -> Table:
    """A row for each victim in each setting and kind of attacker: clean, and after the strongest attack."""
    found: dict[tuple[object, ...], list[Entry]] = {}
    for where, row in entries:
        if row.records:
            kind = (where, victim_key(row.records[0]), row.knowledge, row.records[0].level)
            found.setdefault(kind, []).append((where, row))
    columns = [Column("data"), Column("protocol"), Column("budget"), Column("victim"), Column("knowledge")]
    columns += [Column("strongest attack"), Column("of", True, "Attacks that compete")]
    columns += [Column(HEADINGS[metric], True, "Before → after, percent") for metric in _METRICS]
    groups = [_strongest(rivals) for rivals in found.values()]
    return Table("strongest", _CAPTION, columns, groups, legend=_LEGEND, filtered=False)


def _strongest(rivals: Sequence[Entry]) -> Group:
    where, row = min(rivals, key=lambda entry: entry[1].after["r1"])
    said = facts(where)
    cells = [
        Cell("SYNTHETIC" if where.synthetic else "real", small=said["data"]),
        Cell(where.protocol, small=said["trials"]),
        Cell(where.threat),
        Cell(row.victim),
        Cell(row.knowledge),
        Cell(row.attack, small=f"{row.seeds} seeds" if row.seeds > 1 else ""),
        Cell(str(len(rivals)), len(rivals)),
    ]
    cells += [_figure(row, metric) for metric in _METRICS]
    return Group(f"{row.attack} on {row.victim}", cells)


def _figure(row: Row, metric: str) -> Cell:
    return Cell(f"{row.after[metric]:.1f}", row.after[metric], lead=f"{row.before[metric]:.1f} → ")


def _listed(names) -> str:
    found = list(dict.fromkeys(names))
    more = f" and {len(found) - 12} more" if len(found) > 12 else ""
    return f"{len(found)}: {', '.join(found[:12])}{more}"
