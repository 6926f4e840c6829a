"""How much memory this process holds while something runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

_EVERY_SECONDS = 0.02


@contextmanager
def resident_peak() -> Iterator[list[int]]:
    """Sample the resident set of this process while the block runs: one number, bytes, the highest seen.

    It counts all that the process holds in that time, and nothing that it gave back before.
    """
    process, over = psutil.Process(), threading.Event()
    seen = [process.memory_info().rss]

    def watch() -> None:
        while not over.wait(_EVERY_SECONDS):
            seen[0] = max(seen[0], process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
        seen[0] = max(seen[0], process.memory_info().rss)
