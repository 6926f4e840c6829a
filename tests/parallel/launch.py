"""Starting a script as several processes that find each other, as torchrun does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Ended:
    """How one process ended and what it printed."""

    code: int
    stdout: str
    stderr: str


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def several(count: int, arguments: list[object], seconds: float = 300, **variables: str) -> list[Ended]:
    """Run ``python ARGUMENTS`` as ``count`` processes; each must end by itself within ``seconds``."""
    common = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
    }
    running = [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env={**os.environ, **common, **variables, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    deadline = time.monotonic() + seconds
    try:
        printed = [one.communicate(timeout=max(1.0, deadline - time.monotonic())) for one in running]
    finally:
        for one in running:
            one.kill()
    return [Ended(one.returncode, *texts) for one, texts in zip(running, printed, strict=True)]
