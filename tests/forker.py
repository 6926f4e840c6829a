"""Runs ``vbench`` commands in forked processes that something happens to; torch is loaded once for all.

Reads one job a line from standard input and answers each with one line. A job is ``arguments``, ``log`` (a
file that takes what is printed) and what befalls the process, if anything: ``kill_after`` seconds;
``die_at``, ["half", n] in the middle of the n-th file or ["replaced", n] after it; ``most_bytes`` a file may
have, whereafter the system refuses; ``plain``, a process to which the rights of files apply, root's too.
``path``, a folder that modules are found in; ``times``, how many such processes there are at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


def _obey_rights() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, data) == 0
    data[0] &= ~(1 << _CAP_DAC_OVERRIDE | 1 << _CAP_DAC_READ_SEARCH)
    assert libc.capset(header, data) == 0


def _die_at(where: str, number: int) -> None:
    calls = []

    def count() -> None:
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def half(descriptor: int) -> None:
        if len(calls) + 1 == number:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
        count()

    def replaced(path: Path, target: Path) -> Path:
        found = replace(path, target)
        count()
        return found

    replace = Path.replace
    if where == "half":
        os.fsync = half
    else:
        Path.replace = replaced


def end_with(work: Callable[..., None], *given: object) -> None:
    """End this forked process as Python would end after ``work``."""
    code = 1
    try:
        work(*given)
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)


def _child(job: dict) -> None:
    from vbench.cli import main

    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 2)
    os.dup2(os.open(job.get("stdout", job["log"]), os.O_WRONLY | os.O_APPEND), 1)
    if job.get("plain") and os.geteuid() == 0:
        _obey_rights()
    if job.get("most_bytes"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["most_bytes"], resource.RLIM_INFINITY))
    if job.get("die_at"):
        _die_at(*job["die_at"])
    os.environ |= job.get("environment", {})
    sys.path[:0] = job.get("path", [])
    sys.argv = ["vbench", *job["arguments"]]
    main()


def _start(job: dict) -> int:
    pid = os.fork()
    if pid == 0:
        end_with(_child, job)
    return pid


def _do(job: dict) -> dict:
    started, code = time.monotonic(), 0
    running = [_start(job) for _ in range(job.get("times", 1))]
    while running:
        seconds = time.monotonic() - started
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                running.remove(pid)
                code = code or os.waitstatus_to_exitcode(status)
            elif seconds > job.get("kill_after", 300):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    return {"code": code, "seconds": seconds}


if __name__ == "__main__":
    import torch

    import vbench.reports.table
    import vbench.run.session
    import vbench.victims.agw  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        print(json.dumps(_do(json.loads(line))), flush=True)
