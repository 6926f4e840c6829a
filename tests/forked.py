"""Calls of ``vbench`` in processes of their own, to which something may happen: see :mod:`forker`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ended:
    """How a process ended; ``printed``: both of its streams."""

    code: int
    seconds: float
    printed: str

    @property
    def line(self) -> str:
        """The one line that a refused command prints."""
        (line,) = self.printed.strip().splitlines()
        assert line.startswith("vbench: ")
        return line


@dataclass(frozen=True)
class Forked:
    """Calls ``vbench`` in a process of its own."""

    process: subprocess.Popen[str]
    log: Path

    def __call__(self, *arguments: object, **befalls: Any) -> Ended:
        job = {"arguments": [str(one) for one in arguments], "log": str(self.log), **befalls}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        printed = self.log.read_text()
        assert "Traceback" not in printed, printed
        return Ended(answer["code"], answer["seconds"], printed)


@contextmanager
def forking(folder: Path) -> Iterator[Forked]:
    """Start the process that others are forked from; torch is loaded once for all of them."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "VBENCH_CACHE": str(folder / "cache")}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("forker.py"))],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield Forked(process, folder / "log")
        process.stdin.close()
