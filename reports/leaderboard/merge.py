"""One entry a configuration: the same run handed in twice, on one machine or on several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean as mean

from vbench.record import Record
from vbench.reports.leaderboard.collect import Found
from vbench.reports.verify import Mark

#: Figures further apart than this, in [0, 1], are not the rounding of another machine.
TOLERANCE = 0.005

#: What a record says happened; the rest says where, when, how fast and on what.
_OUTCOME = frozenset({"clean", "adversarial", "controls", "members", "asr", "stealthy", "level"})
_COMPARED = ("r1", "r5", "r10", "r20", "map", "minp")


@dataclass(frozen=True)
class Result:
    """One outcome of a configuration, and the files that hold it. ``doubts``: what other records deny."""

    record: Record
    sources: tuple[str, ...]
    marks: tuple[Mark, ...]
    doubts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Entry:
    """Every outcome that somebody recorded of one configuration, oldest first; mostly one."""

    results: tuple[Result, ...]

    @property
    def record(self) -> Record:
        """A record of the configuration: what it says of that is the same in all."""
        return self.results[0].record

    def mean(self, which: str, metric: str) -> float:
        """Mean over outcomes of a metric of "clean" or "adversarial", in [0, 1]."""
        return mean(result.record.mean(which, metric) for result in self.results)

    def span(self, which: str, metric: str) -> tuple[float, float]:
        """Least and largest outcome."""
        found = [result.record.mean(which, metric) for result in self.results]
        return min(found), max(found)

    @property
    def agrees(self) -> bool:
        """Whether all outcomes are one but for the rounding of machines, before and after the attack."""
        return all(
            high - low <= TOLERANCE
            for which in ("clean", "adversarial")
            for low, high in (self.span(which, metric) for metric in _COMPARED)
        )


def merge(found: Iterable[Found]) -> list[Entry]:
    """Entries by configuration, in the order of their oldest records.

    Equal outcomes become one result that names every file, with the marks of the copy that could be checked
    best. Different outcomes stay side by side; none is preferred, and a date, which anybody can write,
    decides nothing but their order.
    """
    entries: dict[str, dict[str, Result]] = {}
    for one in sorted(found, key=lambda one: (one.record.created, one.source)):
        results = entries.setdefault(one.record.id, {})
        outcome = one.record.model_dump_json(include=_OUTCOME)
        if outcome in results:
            results[outcome] = _joined(results[outcome], one)
        else:
            results[outcome] = Result(one.record, (one.source,), one.marks)
    return [Entry(tuple(results.values())) for results in entries.values()]


def _joined(result: Result, other: Found) -> Result:
    sources = (*result.sources, other.source)
    if len(other.marks) < len(result.marks):
        return replace(result, record=other.record, sources=sources, marks=other.marks)
    return replace(result, sources=sources)


def disputed(entries: Sequence[Entry]) -> list[str]:
    """One line for each configuration whose outcomes differ by more than rounding, with all sources."""
    lines = []
    for entry in entries:
        if entry.agrees:
            continue
        said = "; ".join(
            f"Rank-1 {100 * result.record.mean('clean', 'r1'):.2f} -> "
            f"{100 * result.record.mean('adversarial', 'r1'):.2f}, "
            f"mAP {100 * result.record.mean('clean', 'map'):.2f} -> "
            f"{100 * result.record.mean('adversarial', 'map'):.2f} in {', '.join(result.sources)}"
            for result in entry.results
        )
        record = entry.record
        lines.append(f"{record.label} on {record.victim_label}, {record.protocol}, id {record.id}: {said}")
    return lines
