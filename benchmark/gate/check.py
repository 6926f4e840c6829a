"""Comparing a re-run with its baseline: a verdict for every figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from vbench.gate.baseline import Baseline, Measured
from vbench.gate.causes import causes, other_subject
from vbench.gate.measure import Taken, Takings
from vbench.gate.metrics import METRICS, Metric
from vbench.gate.spread import Spread


class Verdict(str, Enum):
    """What became of a figure; all but SAME and WITHIN turn a gate red.

    UNGUARDED: no result could have moved it.
    """

    SAME = "same"
    WITHIN = "within"
    UP = "up"
    DOWN = "down"
    MISSING = "missing"
    FAILED = "failed"
    CHANGED = "changed"
    UNGUARDED = "cannot guard"

    @property
    def red(self) -> bool:
        """Whether this is a finding."""
        return self not in (Verdict.SAME, Verdict.WITHIN)


@dataclass(frozen=True)
class Row:
    """One figure of one victim or attack, or, with ``note``, what else is wrong with it.

    ``before``, ``now``: over the baseline's seeds and over those of the re-run; ``bound``: largest difference
    of their means that is no finding. None where ``note`` says it all.
    """

    subject: Measured
    verdict: Verdict
    metric: Metric | None = None
    before: Spread | None = None
    now: Spread | None = None
    bound: float | None = None
    note: str = ""

    @property
    def change(self) -> float | None:
        """New mean less the old one."""
        return self.now.mean - self.before.mean if self.now and self.before else None

    @property
    def word(self) -> str:
        """The verdict in the metric's own words: a drop that falls is a weaker attack."""
        if self.metric and self.verdict in (Verdict.UP, Verdict.DOWN):
            return self.metric.words[self.verdict is Verdict.DOWN]
        return self.verdict.value


@dataclass(frozen=True)
class Gate:
    """The outcome. ``causes``: what differs besides the figures. ``seconds``: by victim and attack."""

    baseline: Baseline
    seeds: tuple[int, ...]
    rows: list[Row]
    causes: list[str] = field(default_factory=list)
    seconds: dict[tuple[str, str, str], float] = field(default_factory=dict)

    @property
    def moved(self) -> list[Row]:
        """The findings."""
        return [row for row in self.rows if row.verdict.red and row.verdict is not Verdict.UNGUARDED]

    @property
    def unguarded(self) -> list[Row]:
        """The figures that this gate says nothing about."""
        return [row for row in self.rows if row.verdict is Verdict.UNGUARDED]

    @property
    def green(self) -> bool:
        """Whether nothing moved, and everything could have been seen to move."""
        return not self.moved and not self.unguarded


def compare(baseline: Baseline, takings: Takings, seeds: Sequence[int]) -> Gate:
    """Set what was measured with ``seeds`` against the baseline, figure by figure."""
    found = {one.place.key: one for one in (*takings.victims, *takings.attacks)}
    unguarded = {(one.subject.key, one.metric): one.needed for one in baseline.unguarded(len(seeds))}
    rows: list[Row] = []
    for subject in baseline.subjects:
        taken = found.get(subject.key)
        if taken is None:
            rows.append(Row(subject, Verdict.MISSING, note="was not run"))
        else:
            rows += _rows(baseline, subject, taken, unguarded)
    return Gate(
        baseline,
        tuple(seeds),
        rows,
        causes(baseline, takings),
        {key: one.seconds for key, one in found.items()},
    )


def _rows(
    baseline: Baseline,
    subject: Measured,
    taken: Taken,
    unguarded: Mapping[tuple[tuple[str, str, str], str], int | None],
) -> Iterator[Row]:
    for note in other_subject(subject, taken):
        yield Row(subject, Verdict.CHANGED, note=note)
    for reason in dict.fromkeys(taken.failures.values()):
        yield Row(subject, Verdict.FAILED, note=reason)
    now = taken.spreads()
    for name, before in subject.metrics.items():
        if name in now:
            bound, key = baseline.bound(before, now[name].n), (subject.key, name)
            verdict = Verdict.UNGUARDED if key in unguarded else _verdict(before, now[name], bound)
            note = seeds_text(unguarded[key]) if key in unguarded else ""
            yield Row(subject, verdict, METRICS[name], before, now[name], bound, note)
        elif not taken.failures:
            yield Row(subject, Verdict.MISSING, METRICS[name], before, note="has no value any more")


def seeds_text(needed: int | None) -> str:
    """How a figure that cannot be guarded could be."""
    return "(no number of seeds would do)" if needed is None else f"({needed} seeds would do)"


def _verdict(before: Spread, now: Spread, bound: float) -> Verdict:
    if before.values[: now.n] == now.values:
        return Verdict.SAME
    change = now.mean - before.mean
    if abs(change) <= bound:
        return Verdict.WITHIN
    return Verdict.UP if change > 0 else Verdict.DOWN
