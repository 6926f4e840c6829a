"""Progress on standard error: nested bars on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from vbench.core.text import lines, one_line, show_seconds

T = TypeVar("T")

_PLAIN_INTERVAL_SECONDS = 10.0

#: All output but results goes to standard error, so that ``--format json`` can be piped. Its ``file`` is
#: standard error itself, also while a display of rich stands in for it.
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
    elif console.file.isatty():
        yield from _bar(items, label, total)
    else:
        yield from _lines(items, label, total)


def say(message: str, quiet: bool = False) -> None:
    """Print a message on standard error, non-printable characters escaped."""
    if not quiet:
        # Brackets hold an attack's settings, not rich's markup.
        console.print(lines(message), highlight=False, markup=False, soft_wrap=True)


@contextmanager
def busy(label: str, quiet: bool = False) -> Iterator[None]:
    """Show on a terminal that the block works, where nothing can be counted."""
    if quiet or _shared is not None or not console.file.isatty():
        yield
    else:
        with console.status(f"{one_line(label)} ..."):
            yield


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


class Durations(Protocol):
    """How long tasks took, and will take on ``width`` workers, as text."""

    def add(self, task: Any, seconds: float) -> None: ...

    def left(self, tasks: Collection[Any], width: int = 1) -> str: ...


class Display:
    """Shows how many of ``tasks`` have ended, which one began last, and the time left.

    On a terminal a bar, with those of :func:`track` below it; elsewhere a line when a task ends. The seconds
    of tasks that were done are added to ``durations``.
    """

    def __init__(self, tasks: Sequence[Any], width: int, durations: Durations, quiet: bool = False) -> None:
        self._left = dict.fromkeys(tasks)
        self._total, self._width, self._durations, self._quiet = len(tasks), width, durations, quiet
        self._bars: Progress | None = None
        self._open = ExitStack()

    def __enter__(self) -> Display:
        if self._total and not self._quiet and console.file.isatty():
            # On a narrow terminal a long name is cut, not the bar.
            text = TextColumn(
                "{task.description}",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            )
            columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(), text)
            self._bars = Progress(*columns, console=console, transient=True, expand=True)
            self._open.enter_context(self._bars)
            self._open.enter_context(shared(self._bars))
            self._bar = self._bars.add_task("runs", total=self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def say(self, message: str) -> None:
        """Print one line."""
        say(message, self._quiet)

    def begin(self, task: Any) -> None:
        """Show that a task begins."""
        self._update(task.title)

    def done(self, task: Any, seconds: float) -> None:
        """Report a task that was done."""
        self._durations.add(task, seconds)
        self._end(task, f"done in {show_seconds(seconds)}")

    def found(self, task: Any) -> None:
        """Report a task that already had a record."""
        self._end(task, "found", plain=False)

    def failed(self, task: Any, reason: str) -> None:
        """Report a task that failed."""
        self._end(task, f"FAILED: {reason}", always=True)

    def _end(self, task: Any, status: str, always: bool = False, plain: bool = True) -> None:
        self._left.pop(task, None)
        left = self._update()
        if always or (plain and self._bars is None):
            ended = self._total - len(self._left)
            say(f"[{ended}/{self._total}] {task.title}: {status}{f'; {left}' if plain else ''}", self._quiet)

    def _update(self, *name: str) -> str:
        left = self._durations.left(self._left, self._width)
        if self._bars is not None:
            text = one_line("; ".join([left, *name]))
            self._bars.update(self._bar, completed=self._total - len(self._left), description=text)
        return left
