"""Progress over many runs: one bar above the bars of the run in progress, or a line as each run begins."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

from vbench.printable import one_line
from vbench.progress import console, say, shared


class Overview:
    """Shows how many of ``total`` runs are done, which one is in progress, and what is left.

    On a terminal the bars of :func:`vbench.progress.track` appear below; elsewhere each run is a line.
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
            # The bar keeps its place on a narrow terminal; a long name is cut instead.
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
        """A run begins; ``left`` says how long it and all after it will take."""
        if self._bars is not None:
            self._bars.update(self._task, description=one_line(f"{left}; {name}"))
        else:
            say(f"[{self._done + 1}/{self._total}] {name}; {left}", self._quiet)

    def end(self) -> None:
        """The run is over, whatever came of it."""
        self._done += 1
        if self._bars is not None:
            self._bars.advance(self._task)
