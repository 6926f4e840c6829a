"""A command on several processes: process 0 speaks, all end alike."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator

from vbench.core import processes
from vbench.core.errors import INTERRUPTED
from vbench.core.launch import Place
from vbench.core.progress import console
from vbench.core.text import lines

#: What an error means: exit code and line, None for one that nobody foresaw.
Explain = Callable[[BaseException], tuple[int, str] | None]


def on_all(place: Place, command: Callable[[], None], explain: Explain) -> int:
    """Run ``command`` as one process of several; the exit code.

    What fails on all is printed by process 0, what fails on one by that one, once. None leaves before it is
    printed, since the first that does makes torchrun end the others.
    """
    processes.start(place)
    before = signal.signal(signal.SIGINT, _interrupted)
    try:
        with contextlib.nullcontext(io.StringIO()) if processes.is_main() else _hushed() as heard:
            code, line, peer = _outcome(command, explain)
        if code == INTERRUPTED:
            _say(line if processes.is_main() else "")
        elif code:
            speaks = _first_to_fail(code) if peer is None else processes.is_main() and not peer.explained
            if speaks:
                _say(line if processes.is_main() else f"process {place.rank}: {heard.getvalue()}{line}")
            with contextlib.suppress(processes.PeerFailed):
                processes.report_failure(code)
        return code
    finally:
        processes.stop()
        signal.signal(signal.SIGINT, before)


def _outcome(command: Callable[[], None], explain: Explain) -> tuple[int, str, processes.PeerFailed | None]:
    """Exit code, line, and the error if it came from another process."""
    try:
        try:
            command()
        except SystemExit as end:
            if end.code:
                return *(explain(end) or (end.code if isinstance(end.code, int) else 1, "")), None
        processes.barrier("the end")
        return 0, "", None
    except BaseException as error:
        code, line = explain(error) or (1, traceback.format_exc().rstrip())
        return code, line, error if isinstance(error, processes.PeerFailed) else None


def _interrupted(*_: object) -> None:
    # The keyboard reaches a process twice, the second time through torchrun.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _say(line: str) -> None:
    if line:
        print(lines(line), file=sys.stderr, flush=True)


def _first_to_fail(code: int) -> bool:
    try:
        said = processes.report_failure(code)
    except processes.PeerFailed:
        return True
    return next(rank for rank, status in enumerate(said) if status) == processes.place().rank


@contextlib.contextmanager
def _hushed() -> Iterator[io.StringIO]:
    """Nothing is printed; what would have been printed about errors is kept."""
    heard = io.StringIO()
    console.quiet = True
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(heard),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield heard
    console.quiet = False
