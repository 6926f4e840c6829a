"""What a sweep shows while it runs: a Rich bar over tasks on a terminal, a plain line a task elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from vbench.core.progress import console, say
from vbench.core.text import show_seconds
from vbench.records.spec import RunSpec
from vbench.sweep.tasks import Durations


class Display:
    """Tells of ``tasks`` as they end; ``durations`` know how long a kind of task takes, and learn."""

    def __init__(self, tasks: list[RunSpec], width: int, durations: Durations, quiet: bool = False) -> None:
        self._left = dict.fromkeys(tasks)
        self._total, self._width, self._durations, self._quiet = len(tasks), width, durations, quiet
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        on = sys.stderr.isatty() and not quiet
        self._progress = Progress(*columns, console=console, transient=True) if on else None
        self._bar = self._progress.add_task("runs", total=len(tasks), left="") if self._progress else None
        self._started = time.monotonic()

    def __enter__(self) -> Display:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress:
            self._progress.stop()

    def say(self, message: str) -> None:
        """One line about what is going on."""
        say(message, self._quiet)

    def done(self, task: RunSpec, seconds: float) -> None:
        """A task was done."""
        self._durations.add(task, seconds)
        self._one(task, f"done in {show_seconds(seconds)}")

    def found(self, task: RunSpec) -> None:
        """A task turned out to have its record already."""
        self._one(task, "found", plain=False)

    def failed(self, task: RunSpec, reason: str) -> None:
        """A task failed."""
        self._one(task, f"FAILED: {reason}", always=True)

    def _one(self, task: RunSpec, told: str, always: bool = False, plain: bool = True) -> None:
        self._left.pop(task, None)
        ended = self._total - len(self._left)
        left = self._durations.left(self._left, self._width)
        if self._progress and self._bar is not None:
            self._progress.update(self._bar, completed=ended, left=left)
        if always or (plain and not self._progress):
            say(f"[{ended}/{self._total}] {task.title}: {told}{f'; {left}' if plain else ''}", self._quiet)
