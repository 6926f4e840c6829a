"""What records say about the same thing: clean figures of a victim, and whether images are drawn."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from statistics import fmean as mean

from vbench.record import Record
from vbench.reports.leaderboard.merge import TOLERANCE, Entry, Result

_METRICS = ("r1", "r5", "r10", "r20", "map", "minp")


def find_doubts(entries: Sequence[Entry]) -> None:
    """Note on each result, in its ``doubts``, which others it contradicts.

    Both sides are marked and both stay: who is right cannot be seen from records, and nobody shall be able
    to take another's result off a board by handing in a false one.
    """
    results = [result for entry in entries for result in entry.results]
    for same in _alike(results, _victim_and_images):
        _clean(same)
    for same in _alike(results, lambda record: record.config["dataset"]["fingerprint"]):
        _drawn(same)


def _alike(results: Iterable[Result], key: Callable[[Record], Hashable]) -> list[list[Result]]:
    found: dict[Hashable, list[Result]] = {}
    for result in results:
        found.setdefault(key(result.record), []).append(result)
    return list(found.values())


def _victim_and_images(record: Record) -> Hashable:
    """Whatever the clean ranking of a victim depends on."""
    data = record.config["dataset"]
    return json.dumps(record.config["victim"], sort_keys=True), data["fingerprint"], data["protocol"]


def _clean(results: Sequence[Result]) -> None:
    """Clean figures of one victim on the same images are one, but for the rounding of machines."""
    said: dict[tuple[float, ...], list[Result]] = {}
    for result in results:
        figures = tuple(mean(getattr(trial, metric) for trial in result.record.clean) for metric in _METRICS)
        counts = tuple(float(trial.queries) for trial in result.record.clean)
        near = next((known for known in said if _near(known, (*figures, *counts))), (*figures, *counts))
        said.setdefault(near, []).append(result)
    if len(said) == 1:
        return
    record = results[0].record
    told = "; ".join(
        f"Rank-1 {100 * figures[0]:.2f}, mAP {100 * figures[4]:.2f} over {figures[len(_METRICS)]:.0f} "
        f"queries in {_some([source for result in same for source in result.sources])}"
        for figures, same in said.items()
    )
    victim = f"{record.victim_label}, weights {record.config['victim']['weights']}"
    line = f"clean figures of {victim} on {record.protocol} differ: {told}"
    for result in results:
        result.doubts.append(line)


def _drawn(results: Sequence[Result]) -> None:
    """The same images are drawn or photographed, not both."""
    kinds = {result.record.synthetic for result in results}
    if len(kinds) == 1:
        return
    drawn, real = (
        _some([source for one in results if one.record.synthetic is kind for source in one.sources])
        for kind in (True, False)
    )
    fingerprint = results[0].record.config["dataset"]["fingerprint"]
    line = f"images {fingerprint} are called synthetic in {drawn}, and real in {real}"
    for result in results:
        result.doubts.append(line)


def _near(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and all(abs(a - b) <= TOLERANCE for a, b in zip(one, other, strict=True))


def _some(sources: Sequence[str]) -> str:
    more = len(sources) - 3
    return ", ".join(sources[:3]) + (f" and {more} more" if more > 0 else "")
