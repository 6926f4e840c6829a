"""The commands and their exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any

import typer

from vbench.cli import check, cite, many, report, run, show
from vbench.cli.examples import EXAMPLES
from vbench.core.environment import namesake
from vbench.core.errors import INTERRUPTED, BadInput, VbenchError, refused
from vbench.core.launch import Place, launched
from vbench.core.plugins import one_version, plugin_line, plugin_place
from vbench.core.text import lines

#: What typer raises for a command line that it cannot read. Not one of its public names, unlike a subclass.
_UsageError: Any = typer.BadParameter.__base__


def _show(error: Any, file: object = None) -> None:
    """Print a usage error in one line, as other bad input, without the usage that typer prints above it."""
    more = f"; see {error.ctx.command_path} --help" if error.ctx else ""
    print(lines(f"vbench: {error.format_message().rstrip('.')}{more}"), file=sys.stderr)


_UsageError.show = _show

app = typer.Typer(
    name="vbench",
    help="Adversarial robustness of visible-infrared person re-identification.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)

_DEBUG = "--debug"


def _version(asked: bool) -> None:
    if asked:
        from vbench.core import __version__

        typer.echo(f"vbench {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option(_DEBUG, help="Also show the traceback of an error; allowed after the command too.")
    ] = False,
) -> None:
    """Adversarial robustness of visible-infrared person re-identification."""

    # --debug is declared for --help only: ``_debug`` removes the option from the command line.


for _name, _group in (("data", show.data_app), ("victims", show.victims_app), ("sweep", many.app)):
    app.add_typer(_group, name=_name, epilog=EXAMPLES[_name])

for _command in (
    *(run.run, many.status, check.audit, many.paper, check.baseline, check.check, report.report),
    *(report.leaderboard, report.figure, run.train, show.list_entries, show.describe, show.doctor, cite.cite),
):
    _name = _command.__name__.removesuffix("_entries")
    app.command(_name, epilog=EXAMPLES[_name])(_command)


def main() -> None:
    """Entry point of ``vbench``: one line and an exit code instead of a traceback.

    Exit codes: 0 done, 1 the work failed, 2 bad input, 130 interrupted. Under torchrun it runs as one of
    several processes.
    """
    code = 0
    explain = _with_traceback if _debug() else _explained
    other = namesake()
    if other:
        print(
            f"vbench: other software is installed under this name, {lines(other)}, and its files are mixed "
            "with those of vireid-bench: pip uninstall vbench, then install vireid-bench again",
            file=sys.stderr,
        )
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
    """Whether ``--debug``, anywhere in the command, or ``VBENCH_DEBUG`` asks for tracebacks."""
    given = _DEBUG in sys.argv[1:]
    sys.argv[1:] = [word for word in sys.argv[1:] if word != _DEBUG]
    return given or os.environ.get("VBENCH_DEBUG", "") not in ("", "0")


def _explained(error: BaseException) -> tuple[int, str] | None:
    """Exit code and line of an error; None for an unexpected one, which is raised again."""
    if isinstance(error, VbenchError):
        return error.exit_code, f"vbench: {error}"
    # Typer turns Ctrl-C during a command into an exit.
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
    from vbench.cli.several import on_all

    def command() -> None:
        words = [word for word in sys.argv[1:3] if not word.startswith("-")]
        commands = {found.name for found in app.registered_commands}
        one_process = (commands | {found.name for found in app.registered_groups}) - {"run"}
        if words and words[0] in one_process and words != ["sweep", "transfer"]:
            raise BadInput(f"vbench {' '.join(words)} takes one process; start it without torchrun")
        app()

    return on_all(place, command, explain)
