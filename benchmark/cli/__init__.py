"""The commands and their exit codes."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from vbench.cli import check, many, report, run, show
from vbench.core import processes
from vbench.core.errors import INTERRUPTED, BadInput, VbenchError, refused
from vbench.core.plugins import one_version, plugin_line, plugin_place
from vbench.core.processes import Place, launched
from vbench.core.progress import console
from vbench.core.text import lines

app = typer.Typer(
    name="vbench",
    help="Adversarial robustness of visible-infrared person re-identification.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

_DEBUG = "--debug"


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option(_DEBUG, help="Show the traceback of an error as well; also after the command.")
    ] = False,
) -> None:
    """Adversarial robustness of visible-infrared person re-identification."""

    # Taken off the command line before it gets here, wherever it stood; this is for --help.


app.add_typer(show.data_app, name="data")

app.add_typer(show.victims_app, name="victims")

app.add_typer(many.app, name="sweep")

app.command("run")(run.run)

app.command("status")(many.status)

app.command("audit")(check.audit)

app.command("paper")(many.paper)

app.command("baseline")(check.baseline)

app.command("check")(check.check)

app.command("report")(report.report)

app.command("leaderboard")(report.leaderboard)

app.command("figure")(report.figure)

app.command("train")(run.train)

app.command("list")(show.list_entries)

app.command("describe")(show.describe)

app.command("doctor")(show.doctor)


def main() -> None:
    """Entry point of ``vbench``: one line and an exit code instead of a traceback.

    Exit codes: 0 done, 1 the work failed, 2 bad input, 130 interrupted. Started by torchrun, it is one of
    several processes.
    """
    code = 0
    explain = _with_traceback if _debug() else _explained
    try:
        place = launched()
        with one_version():
            if place is None:
                app()
            else:
                code = _one_of_several(place, explain)
    except BaseException as error:
        found = explain(error)
        if found is None:
            raise
        code, line = found
        print(lines(line), file=sys.stderr)
    sys.exit(code)


def _debug() -> bool:
    """Whether tracebacks are asked for, by ``--debug`` anywhere in the command or by ``VBENCH_DEBUG``."""
    asked = _DEBUG in sys.argv[1:]
    sys.argv[1:] = [word for word in sys.argv[1:] if word != _DEBUG]
    return asked or os.environ.get("VBENCH_DEBUG", "") not in ("", "0")


def _explained(error: BaseException) -> tuple[int, str] | None:
    """Exit code and line of an error; None for one that is shown as it is."""
    if isinstance(error, VbenchError):
        return error.exit_code, f"vbench: {error}"
    # Typer makes an exit of a key press while a command runs.
    if isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and error.code == INTERRUPTED):
        return INTERRUPTED, "vbench: interrupted; finished runs are kept"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return 1, f"vbench: {where}{refused(error)}"
    if isinstance(error, Exception) and plugin_place(error):
        return 1, f"vbench: {plugin_line(error)}; --debug shows the traceback"
    return None


def _with_traceback(error: BaseException) -> tuple[int, str] | None:
    found = _explained(error)
    if found is None or isinstance(error, SystemExit):
        return found
    return found[0], "".join(traceback.format_exception(error)) + found[1]


def _one_of_several(place: Place, explain: Callable[[BaseException], tuple[int, str] | None]) -> int:

    def command() -> None:
        asked = [word for word in sys.argv[1:3] if not word.startswith("-")]
        commands = {found.name for found in app.registered_commands}
        alone = (commands | {found.name for found in app.registered_groups}) - {"run"}
        if asked and asked[0] in alone and asked != ["sweep", "transfer"]:
            raise BadInput(f"vbench {' '.join(asked)} takes one process; start it without torchrun")
        app()

    return on_all(place, command, explain)


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
        with contextlib.nullcontext(io.StringIO()) if processes.leads() else _hushed() as heard:
            code, line, peer = _outcome(command, explain)
        if code == INTERRUPTED:
            _say(line if processes.leads() else "")
        elif code:
            speaks = _first_to_fail(code) if peer is None else processes.leads() and not peer.explained
            if speaks:
                _say(line if processes.leads() else f"process {place.rank}: {heard.getvalue()}{line}")
            with contextlib.suppress(processes.PeerFailed):
                processes.part(code)
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
        processes.meet("the end")
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
        said = processes.part(code)
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
