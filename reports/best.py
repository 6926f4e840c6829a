"""Which figures of a table are its best: the strongest attack on a victim, and what ties with it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from vbench.reports.rows import Row, Setting, victim_key


def interval(row: Row, metric: str) -> tuple[float, float] | None:
    """95 % interval of the drop in percent points; None where a record of the row has none.

    Of several seeds: the mean of their bounds. The mean drop varies no more than single ones do on average
    (a standard deviation is subadditive), so this interval is not too narrow.
    """
    found = [record.drop_interval.get(metric) for record in row.records]
    if not found or None in found:
        return None
    low, high = (100 * mean(bounds) for bounds in zip(*found, strict=True))
    return low, high


def best(entries: Sequence[tuple[Setting, Row]], metric: str) -> set[int]:
    """Positions of the rows to print in bold.

    Rows are compared on the same setting and victim, with the same knowledge and level, where there are two
    at least. Best is the lowest figure after the attack, of ASR the highest. Ties: rows whose drop interval
    holds the best one's drop; without an interval, the same figure at one decimal. Controls never compete.
    Both attacks met the same queries, so two overlapping intervals would call too much a tie.
    """
    rivals: dict[tuple[object, ...], list[int]] = {}
    for index, (where, row) in enumerate(entries):
        if row.records and _strength(row, metric) is not None:
            first = row.records[0]
            key = (where, victim_key(first), row.knowledge, first.level)
            rivals.setdefault(key, []).append(index)
    return {
        index
        for same in rivals.values()
        if len(same) > 1
        for index in _winners([entries[i][1] for i in same], same, metric)
    }


def _winners(rows: Sequence[Row], positions: Sequence[int], metric: str) -> list[int]:
    top = max(rows, key=lambda row: _strength(row, metric))
    found = []
    for position, row in zip(positions, rows, strict=True):
        own = interval(row, metric)
        tied = own[1] >= _drop(top, metric) if own else _shown(row, metric) == _shown(top, metric)
        if row is top or tied:
            found.append(position)
    return found


def _strength(row: Row, metric: str) -> float | None:
    return row.asr if metric == "asr" else -row.after[metric]


def _drop(row: Row, metric: str) -> float:
    return row.before[metric] - row.after[metric]


def _shown(row: Row, metric: str) -> str:
    return f"{_strength(row, metric):.1f}"
