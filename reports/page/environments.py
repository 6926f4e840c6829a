"""What the runs ran on: versions and devices, said once where all agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vbench.record import Record
from vbench.reports.page.table import Cell, Column, Group, Table


@dataclass(frozen=True)
class Environments:
    """``shared``: (what, value) of all runs. ``table``: the rest, one row an environment; None for one."""

    shared: Sequence[tuple[str, str]]
    table: Table | None


def environments(records: Sequence[Record]) -> Environments:
    """The environments of records, the most frequent first."""
    counts: dict[tuple[tuple[str, str], ...], int] = {}
    for record in records:
        key = tuple(_flat(record).items())
        counts[key] = counts.get(key, 0) + 1
    found = [(dict(key), count) for key, count in sorted(counts.items(), key=lambda item: -item[1])]
    names = list(dict.fromkeys(name for one, _ in found for name in one))
    differing = [name for name in names if len({one.get(name, "not recorded") for one, _ in found}) > 1]
    shared = [(name, found[0][0][name]) for name in names if name not in differing]
    if not differing:
        return Environments(shared, None)
    groups = [
        Group(
            f"environment {number}",
            [*(Cell(one.get(name, "not recorded")) for name in differing), Cell(str(count), count)],
        )
        for number, (one, count) in enumerate(found, 1)
    ]
    columns = [*(Column(name) for name in differing), Column("runs", True)]
    caption = f"{len(found)} environments; what they do not share"
    return Environments(shared, Table("environments", caption, columns, groups, filtered=False))


def _flat(record: Record) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in record.environment.items():
        if isinstance(value, dict):
            found |= {str(inner): str(text) for inner, text in value.items()}
        else:
            found[name.replace("_", " ")] = str(value)
    return found
