"""The worker of a sweep: its process, and how it does a job."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Collection
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path

from vbench.core.environment import resident_peak
from vbench.core.errors import VbenchError
from vbench.core.files import cache_folder
from vbench.core.plugins import reason
from vbench.core.text import one_line
from vbench.data.synthetic.embedded import SyntheticSet
from vbench.records.record import config_id
from vbench.records.spec import ModelSpec, RunSpec, Setup
from vbench.run.builtin import thin_weights
from vbench.run.prepare import Opener
from vbench.run.session import Session
from vbench.sweep.engine import Done, Failed, Job, Outcome, Prepare
from vbench.victims.build import read_victim

_LONGEST_REASON = 500


def perform(job: Job, session: Session, known: Collection[str] = ()) -> Outcome:
    """Do a job; an error is returned as :class:`Failed`, with one line.

    ``known``: ids of records that are not in the session's folder, and need not be made again.
    """
    try:
        return _run(job, session, known) if isinstance(job, RunSpec) else _prepare(job)
    except VbenchError as error:
        return Failed(one_short_line(error))
    except (Exception, SystemExit) as error:
        # A defect or a broken device: the traceback goes to the log.
        traceback.print_exc()
        return Failed(one_short_line(reason(error)), sound=False)


def one_short_line(error: object) -> str:
    """The text of an error without line breaks, shortened to fit a table."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


def _prepare(job: Prepare) -> Done:
    dataset = Opener(Setup(job.data, job.model or ModelSpec(""))).open(cache_folder(), quiet=True)
    if job.model is not None:
        size = job.data.size or SyntheticSet().size
        thin_weights(read_victim(job.model.victim), dataset, cache_folder(), size, quiet=True)
    return Done()


def _run(task: RunSpec, session: Session, known: Collection[str]) -> Done:
    run, recorder = session.ready(task), session.recorder
    record_id = config_id(run.config())
    if record_id in known:
        return Done(record_id, new=False)
    found = recorder.known(run)
    if found is not None:
        return Done(record_id, found.seconds, new=False)
    recorder.reuse_stored(run)
    started = time.perf_counter()
    with resident_peak() as peak:
        recorder.record(run)
    return Done(record_id, time.perf_counter() - started, memory=peak[0])


_POLL_SECONDS = 0.5


def serve(connection: Connection, runs: Path, log: Path, threads: int) -> None:
    """Send "up" when everything is loaded, then an outcome for every job, until the connection is closed.

    ``log``: the file for everything that the worker prints; ``threads``: number of torch threads.
    """
    # The terminal sends Ctrl-C to all its processes; the driver ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _print_to(log)

    import torch

    torch.set_num_threads(threads)
    session = Session(runs, quiet=True)
    connection.send("up")
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {one_line(job.title)}", flush=True)
        connection.send(perform(job, session))


def _end_with_parent() -> None:
    """End this process when its parent is gone, so that it does not run next to a restarted sweep."""
    parent = parent_process()
    while parent is not None and parent.is_alive():
        time.sleep(_POLL_SECONDS)
    os._exit(1)


def _print_to(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    # Never writes through a link to another file.
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0), 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
