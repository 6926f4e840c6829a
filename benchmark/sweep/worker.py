"""A local worker: a process that is sent jobs, one at a time, and ends when whoever sends them is gone."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path

from vbench.printable import one_line

_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Start:
    """``log``: the file that takes whatever the worker prints; ``threads``: of torch."""

    runs: Path
    log: Path
    threads: int


def serve(connection: Connection, start: Start) -> None:
    """Say when all is loaded, then answer every job with its outcome, until the end of the connection."""
    # Ctrl-C reaches the whole terminal; the one in charge decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    _print_to(start.log)

    import torch

    from vbench.sweep.opened import Shelf
    from vbench.sweep.work import perform

    torch.set_num_threads(start.threads)
    shelf = Shelf(start.runs)
    connection.send("up")
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {one_line(job.title)}", flush=True)
        connection.send(perform(job, shelf))


def _follow_parent() -> None:
    """A worker whose parent was killed would go on for hours, beside the one that a rerun starts."""
    parent = parent_process()
    while parent is not None and parent.is_alive():
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def _print_to(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    # Through a link it would add to whatever file that names.
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0), 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
