"""The query explorer: of each run the queries that lost the most, before and after the attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vbench.errors import BadInput
from vbench.record import Record
from vbench.reports.rows import setting

#: Queries of a run that are shown.
TOP = 20
_ARRAYS = ("clean_ap", "adversarial_ap", "clean_rank", "adversarial_rank")


@dataclass(frozen=True)
class Explorer:
    """``runs``: what the page's script reads, one a run. ``names``: record id -> key of its run.

    ``without``: runs whose record keeps no values of single queries; ``broken``: ids of those whose values
    cannot be read.
    """

    runs: Sequence[dict[str, Any]]
    names: dict[str, str]
    without: int
    broken: set[str]


def explorer(records: Sequence[Record], images: Mapping[str, dict[str, Any]] | None = None) -> Explorer:
    """The worst queries of every record that keeps them; ``images``: record id -> those that are shown."""
    runs, names, without, broken = [], {}, 0, set()
    for record in records:
        if not all(name in record.per_query for name in _ARRAYS):
            without += 1
            continue
        try:
            worst = _worst(record)
        except BadInput:
            broken.add(record.id)
            continue
        names[record.id] = key = str(len(runs))
        found = {"key": key, "group": setting(record).title, "name": _name(record), **worst}
        kept = (images or {}).get(record.id)
        runs.append({**found, "images": kept} if kept else found)
    return Explorer(runs, names, without, broken)


def _name(record: Record) -> str:
    victim = record.victim_label or record.config["victim"]["name"]
    transfer = f" from {record.surrogate}" if record.surrogate else ""
    return f"{record.label}{transfer} on {victim}, seed {record.config.get('seed')}"


def _worst(record: Record) -> dict[str, Any]:
    """Queries by fall of average precision, mean over the trials in which they have a match.

    A row is: query (counted from 0, as the data set lists them), AP before, AP after, Rank before and after
    (median over trials), best and worst rank after, trials whose Rank-1 was lost, trials with a match.
    """
    arrays = [record.per_query[name].unpack() for name in _ARRAYS]
    if len({array.shape for array in arrays}) > 1 or arrays[0].ndim != 2 or not arrays[0].size:
        raise BadInput(f"record {record.id}: values of single queries have shapes that do not fit")
    before, after = (np.asarray(array, float) for array in arrays[:2])
    first, last = arrays[2:]
    valid = (first > 0) & (last > 0) & np.isfinite(before) & np.isfinite(after)
    counted = valid.sum(0)
    queries = np.flatnonzero(counted)
    lost = ((first == 1) & (last > 1) & valid).sum(0)
    gained = ((first > 1) & (last == 1) & valid).sum(0)
    fall = (np.where(valid, before - after, 0.0).sum(0)[queries]) / counted[queries]
    order = queries[np.argsort(-fall, kind="stable")][:TOP]
    shown = valid[:, order]
    precisions = [np.nanmean(np.where(shown, array[:, order], np.nan), 0) for array in (before, after)]
    ranks, attacked = (np.where(shown, array[:, order], np.nan) for array in (first, last))
    columns = [
        order,
        *(np.round(precision, 4) for precision in precisions),
        *(np.nanmedian(array, 0) for array in (ranks, attacked)),
        *(reduce(attacked, 0).astype(int) for reduce in (np.nanmin, np.nanmax)),
        lost[order],
        counted[order],
    ]
    rows = [list(row) for row in zip(*(column.tolist() for column in columns), strict=True)]
    pairs = max(int(counted.sum()), 1)
    return {
        "rows": rows,
        "queries": len(queries),
        "trials": len(first),
        "lost": round(100 * int(lost.sum()) / pairs, 1),
        "gained": round(100 * int(gained.sum()) / pairs, 1),
        "fell": round(100 * float((fall > 0).mean()), 1) if len(fall) else 0.0,
    }
