"""How long what is left will take, from how long tasks of the same kind took."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Collection

from vbench.core.text import show_left
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
        return show_left([self.of(task) for task in tasks], width)
