"""One progress display: nested bars on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from vbench.core.text import lines, one_line

T = TypeVar("T")

_PLAIN_INTERVAL_SECONDS = 10.0

#: All output but results goes to standard error, so that ``--format json`` can be piped.
console = Console(stderr=True)

_shared: Progress | None = None


def track(items: Iterable[T], label: str, total: int | None = None, quiet: bool = False) -> Iterator[T]:
    """Yield ``items`` while showing progress on standard error.

    ``total`` is needed if ``items`` has no length. ``quiet`` shows nothing.
    """
    if total is None:
        total = len(items)  # type: ignore[arg-type]  # without a length the caller gives a total
    if quiet:
        yield from items
    elif sys.stderr.isatty():
        yield from _bar(items, label, total)
    else:
        yield from _lines(items, label, total)


def say(message: str, quiet: bool = False) -> None:
    """Print a message on standard error, non-printable characters escaped."""
    if not quiet:
        # Brackets hold an attack's settings, not rich's markup.
        console.print(lines(message), highlight=False, markup=False, soft_wrap=True)


@contextmanager
def shared(bars: Progress) -> Iterator[None]:
    """Show every bar of :func:`track` inside the block as a line of ``bars``: one display per terminal."""
    global _shared
    before, _shared = _shared, bars
    try:
        yield
    finally:
        _shared = before


def _bar(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    if _shared is not None:
        task = _shared.add_task(one_line(label), total=total)
        try:
            yield from _counted(items, _shared, task)
        finally:
            _shared.remove_task(task)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(one_line(label), total=total)
        yield from _counted(items, progress, task)


def _counted(items: Iterable[T], bars: Progress, task: TaskID) -> Iterator[T]:
    for item in items:
        yield item
        bars.advance(task)


def _lines(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    started = last = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - last >= _PLAIN_INTERVAL_SECONDS:
            last = now
            left = (now - started) / done * (total - done)
            say(f"{label}: {done}/{total}, about {left:.0f} s left")


class Overview:
    """Shows how many of ``total`` runs are done, which one is in progress, and the time left.

    On a terminal the bars of :func:`track` appear below it; elsewhere each run prints one line.
    """

    def __init__(self, label: str, total: int, quiet: bool = False) -> None:
        self._label = label
        self._total = total
        self._quiet = quiet
        self._done = 0
        self._bars: Progress | None = None
        self._open = ExitStack()

    def __enter__(self) -> Overview:
        if self._total and not self._quiet and sys.stderr.isatty():
            # On a narrow terminal a long name is cut, not the bar.
            text = TextColumn(
                "{task.description}",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            )
            columns = (BarColumn(bar_width=20), MofNCompleteColumn(), text)
            self._bars = Progress(*columns, console=console, transient=True, expand=True)
            self._open.enter_context(self._bars)
            self._open.enter_context(shared(self._bars))
            self._task = self._bars.add_task(self._label, total=self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def begin(self, name: str, left: str) -> None:
        """Show that a run begins; ``left`` says how long it and all after it will take."""
        if self._bars is not None:
            self._bars.update(self._task, description=one_line(f"{left}; {name}"))
        else:
            say(f"[{self._done + 1}/{self._total}] {name}; {left}", self._quiet)

    def end(self) -> None:
        """Count the run as done, failed or not."""
        self._done += 1
        if self._bars is not None:
            self._bars.advance(self._task)
