"""Starting a script as several processes that find each other, as torchrun does; all load torch once."""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from forker import end_with

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
    """Run ``python ARGUMENTS`` as ``count`` processes; all must end by themselves within ``seconds``."""
    common = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = subprocess.Popen(
            [sys.executable, __file__, str(count), name, *map(str, arguments)],
            env={**os.environ, **common, **variables},
            start_new_session=True,
        )
        try:
            process.wait(timeout=seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        codes = json.loads((folder / "codes").read_text())
        texts = [
            [(folder / f"{rank}.{kind}").read_text() for kind in ("out", "err")] for rank in range(count)
        ]
    return [Ended(code, *printed) for code, printed in zip(codes, texts, strict=True)]


def _work(rank: int, folder: Path, arguments: list[str]) -> None:
    for stream, kind in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"{rank}.{kind}", os.O_WRONLY | os.O_CREAT), stream)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")


def _forked(rank: int, folder: Path, arguments: list[str]) -> int:
    pid = os.fork()
    if pid == 0:
        end_with(_work, rank, folder, arguments)
    return pid


def _main(count: int, folder: Path, arguments: list[str]) -> None:
    import vbench.run.session
    import vbench.victims.agw  # noqa: F401

    pids = [_forked(rank, folder, arguments) for rank in range(count)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    (folder / "codes").write_text(json.dumps(codes))


if __name__ == "__main__":
    _main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
