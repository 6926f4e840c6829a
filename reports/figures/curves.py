"""Data of figures: CMC curves, and a metric with its spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vbench.core.errors import BadInput
from vbench.records.record import Record

#: Ranks in the metrics of a record without per-query values.
DEPTHS = (1, 5, 10, 20)
DEEPEST = 50


@dataclass(frozen=True)
class Curve:
    """Percent at ``ranks``: mean over trials and seeds, and standard deviation (None for one value).

    ``whole``: from the ranks of all queries; else only the four ranks in an archive.
    """

    ranks: np.ndarray
    mean: np.ndarray
    spread: np.ndarray | None
    whole: bool

    def until(self, last: int) -> Curve:
        """The curve up to rank ``last``; after its own last rank it is constant."""
        more = max(0, last - int(self.ranks[-1])) if self.whole else 0
        mean = np.pad(self.mean, (0, more), mode="edge")
        spread = None if self.spread is None else np.pad(self.spread, (0, more), mode="edge")
        ranks = np.concatenate([self.ranks, self.ranks[-1] + np.arange(1, more + 1)])
        return Curve(ranks, mean, spread, self.whole)


def cmc(records: Sequence[Record], which: str) -> Curve:
    """The CMC of "clean" or "adversarial" queries up to rank 50, of records that differ only in their seed.

    Rank-k is the share, of the queries with a match, whose first match is at rank k or better, with ranks
    counted as in the record's protocol. Raises BadInput for a record whose stored ranks are broken.
    """
    stored = [_ranks(record, which) for record in records]
    whole = [ranks for ranks in stored if ranks is not None]
    if len(whole) < len(stored):
        trials = [trial for record in records for trial in getattr(record, which)]
        shares = np.array([[getattr(trial, f"r{k}") for k in DEPTHS] for trial in trials])
        return _curve(np.array(DEPTHS), shares, whole=False)
    deepest = min(DEEPEST, max(1, *(int(ranks.max()) for ranks in whole)))
    depth = np.arange(1, deepest + 1)
    values = [
        (((trial[:, None] <= depth) & (trial[:, None] > 0)).sum(0) / max(1, (trial > 0).sum()))
        for ranks in whole
        for trial in ranks
    ]
    return _curve(depth, np.array(values), whole=True)


@dataclass(frozen=True)
class Value:
    """A metric in percent: mean over trials and seeds, and standard deviation (0 for a single value)."""

    mean: float
    spread: float


def value(records: Sequence[Record], which: str, metric: str) -> Value:
    """A metric of "clean" or "adversarial" over records that differ only in their seed."""
    found = [100 * getattr(trial, metric) for record in records for trial in getattr(record, which)]
    return Value(float(np.mean(found)), float(np.std(found, ddof=1)) if len(found) > 1 else 0.0)


def _ranks(record: Record, which: str) -> np.ndarray | None:
    packed = record.per_query.get(f"{which}_rank")
    if packed is None:
        return None
    ranks = packed.unpack()
    if ranks.ndim != 2 or not ranks.size or ranks.min() < 0:
        raise BadInput(f"record {record.id}: its {which} ranks are not trials x queries of ranks")
    return ranks


def _curve(depth: np.ndarray, values: np.ndarray, whole: bool) -> Curve:
    spread = 100 * values.std(0, ddof=1) if len(values) > 1 else None
    return Curve(depth, 100 * values.mean(0), spread, whole)
