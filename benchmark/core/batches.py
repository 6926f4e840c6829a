"""Batches that are halved when the device runs out of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from vbench.core.errors import VbenchError
from vbench.core.processes import all_or_none
from vbench.core.progress import say


@dataclass
class Batches:
    """Splits a range of images into batches as large as memory allows, at most ``size``::

        for rows in batches.over(range(1000)):
            with batches.retried():
                work(rows)

    ``what`` names the work in the message printed when the batch is halved. A halved size stays for later
    ranges.
    """

    what: str
    size: int
    quiet: bool = False
    _short: bool = field(default=False, init=False)

    def over(self, rows: range) -> Iterator[slice]:
        """Consecutive slices that cover ``rows``, the one that ran out of memory again in smaller ones.

        Raises :class:`VbenchError` if memory does not suffice for one image.
        """
        start = rows.start
        while start < rows.stop:
            part = slice(start, min(start + self.size, rows.stop))
            self._short = False
            yield part
            if self._short:
                self._halve(part.stop - part.start)
            else:
                start = part.stop

    @contextmanager
    def retried(self) -> Iterator[None]:
        """A block that ends early on out-of-memory, on all processes if on one, and is then done again.

        It must have no side effects unless it succeeds.
        """
        try:
            with all_or_none():
                yield
        except torch.cuda.OutOfMemoryError:
            # Halved later, since the error's frames keep the tensors that filled the memory alive.
            self._short = True

    def _halve(self, count: int) -> None:
        if count == 1:
            raise VbenchError(f"{self.what}: out of memory with a single image; use another device")
        self.size = count // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        say(f"{self.what}: out of memory with {count} images at a time, now {self.size}", self.quiet)
