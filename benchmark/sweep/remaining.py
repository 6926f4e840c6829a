"""How long what is left will take, from how long tasks of the same kind took."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Collection

from vbench.sweep.tasks import Task


class Durations:
    """Seconds of tasks that were done, by kind."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str, str], list[float]] = defaultdict(list)

    def add(self, task: Task, seconds: float) -> None:
        """A task took ``seconds``; nonsense, as of a clock that was set back, is not counted."""
        if seconds > 0:
            self._seconds[task.kind].append(seconds)

    def of(self, task: Task) -> float | None:
        """Seconds that a task may take: as its kind, else as its attack elsewhere; None: unknown."""
        known = self._seconds.get(task.kind)
        if not known:
            attack = task.kind[0]
            known = [one for kind, found in self._seconds.items() if kind[0] == attack for one in found]
        return statistics.fmean(known) if known else None

    def left(self, tasks: Collection[Task], width: int) -> str:
        """The time that tasks need on ``width`` workers, in words; "unknown" where nothing is known."""
        if not tasks:
            return "nothing left"
        each = [self.of(task) for task in tasks]
        known = [one for one in each if one is not None]
        if not known:
            return "time left unknown"
        told = show_seconds(max(sum(known) / max(1, width), max(known)))
        unknown = len(each) - len(known)
        if unknown:
            return f"more than {told} left ({unknown} of unknown length)"
        return f"about {told} left"


def show_seconds(seconds: float) -> str:
    """Seconds in words.

    >>> show_seconds(3.21), show_seconds(75), show_seconds(7300)
    ('3.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
