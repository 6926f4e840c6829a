"""Batches that are halved when the device runs out of memory."""

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
    """Processes a range of images in batches as large as memory allows, at most ``size``.

    ``what`` names the work in the message printed when the batch is halved. A halved size stays for later
    ranges.
    """

    what: str
    size: int
    quiet: bool = False

    def over(self, rows: range, work: Callable[[slice], T]) -> list[T]:
        """What ``work`` returns for consecutive slices that cover ``rows``.

        On out-of-memory the batch is halved and retried, on all processes if one fails; ``work`` must have
        no side effects if it fails. Raises :class:`VbenchError` if memory does not suffice for one image.
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
            # Outside the handler, since the error's frames keep the tensors that filled the memory alive.
            self._halve(count)
        return found

    def _halve(self, count: int) -> None:
        if count == 1:
            raise VbenchError(f"{self.what}: out of memory with a single image; use another device")
        self.size = count // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        say(f"{self.what}: out of memory with {count} images at a time, now {self.size}", self.quiet)
