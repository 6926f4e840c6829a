"""Batches that get smaller when the device runs out of memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from vbench.core.errors import VbenchError
from vbench.core.processes import all_or_none
from vbench.core.progress import say

T = TypeVar("T")


@dataclass
class Batches:
    """Does work on a range of images in as large portions as memory allows, at most ``size``.

    ``what`` names the work in the line that says so when a portion is halved; later ranges start from there.
    """

    what: str
    size: int
    quiet: bool = False

    def over(self, rows: range, work: Callable[[slice], T]) -> list[T]:
        """What ``work`` returns for consecutive slices that cover ``rows``.

        Work that runs out of memory is done again on half as many images, so it must leave nothing behind
        when it fails, on all processes if it does on one. Raises :class:`VbenchError` when one image alone is
        too many.
        """
        found: list[T] = []
        start = rows.start
        while start < rows.stop:
            part = slice(start, min(start + self.size, rows.stop))
            try:
                with all_or_none():
                    done = work(part)
                found.append(done)
                start = part.stop
                continue
            except torch.cuda.OutOfMemoryError:
                count = part.stop - part.start
            # Outside the handler, since the error's frames hold on to the tensors that filled the memory.
            self._halve(count)
        return found

    def _halve(self, count: int) -> None:
        if count == 1:
            raise VbenchError(f"{self.what}: out of memory with a single image; use another device")
        self.size = count // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        say(f"{self.what}: out of memory with {count} images at a time, now {self.size}", self.quiet)
