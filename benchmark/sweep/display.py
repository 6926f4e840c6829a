"""Progress of a sweep: a Rich bar over tasks on a terminal, elsewhere a plain line per task."""

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
    """Reports each of ``tasks`` when it ends, with the time left; adds its seconds to ``durations``."""

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
        """Print one line."""
        say(message, self._quiet)

    def done(self, task: RunSpec, seconds: float) -> None:
        """Report a task that was done."""
        self._durations.add(task, seconds)
        self._end(task, f"done in {show_seconds(seconds)}")

    def found(self, task: RunSpec) -> None:
        """Report a task that already had a record."""
        self._end(task, "found", plain=False)

    def failed(self, task: RunSpec, reason: str) -> None:
        """Report a task that failed."""
        self._end(task, f"FAILED: {reason}", always=True)

    def _end(self, task: RunSpec, status: str, always: bool = False, plain: bool = True) -> None:
        self._left.pop(task, None)
        ended = self._total - len(self._left)
        left = self._durations.left(self._left, self._width)
        if self._progress and self._bar is not None:
            self._progress.update(self._bar, completed=ended, left=left)
        if always or (plain and not self._progress):
            say(f"[{ended}/{self._total}] {task.title}: {status}{f'; {left}' if plain else ''}", self._quiet)
