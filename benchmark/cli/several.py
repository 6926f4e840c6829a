"""A command on several processes: each error is printed once, and all processes end together."""

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

#: Exit code and line of an error; None for an unexpected one.
Explain = Callable[[BaseException], tuple[int, str] | None]


def on_all(place: Place, command: Callable[[], None], explain: Explain) -> int:
    """Run ``command`` as one of several processes; returns the exit code.

    An error on all processes is printed by the main process, an error on one process by that one. All stay
    until it is printed: torchrun ends the others as soon as one exits with an error.
    """
    processes.start(place)
    before = signal.signal(signal.SIGINT, _interrupted)
    try:
        with contextlib.nullcontext(io.StringIO()) if processes.is_main() else _silenced() as errors:
            code, line, peer = _outcome(command, explain)
        if code == INTERRUPTED:
            _print(line if processes.is_main() else "")
        elif code:
            prints = _first_to_fail(code) if peer is None else processes.is_main() and not peer.explained
            if prints:
                _print(line if processes.is_main() else f"process {place.rank}: {errors.getvalue()}{line}")
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
    # A process gets Ctrl-C twice, the second time through torchrun.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _print(line: str) -> None:
    if line:
        print(lines(line), file=sys.stderr, flush=True)


def _first_to_fail(code: int) -> bool:
    """Whether this is the first process, by rank, with an error."""
    try:
        codes = processes.report_failure(code)
    except processes.PeerFailed:
        return True
    return next(rank for rank, status in enumerate(codes) if status) == processes.place().rank


@contextlib.contextmanager
def _silenced() -> Iterator[io.StringIO]:
    """Print nothing inside the block; yields what was written to standard error."""
    errors = io.StringIO()
    console.quiet = True
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(errors),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield errors
    console.quiet = False
