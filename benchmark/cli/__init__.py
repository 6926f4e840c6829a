"""The command line. Importing it loads neither torch nor any attack or victim."""

from __future__ import annotations

import sys

import typer

from vbench.cli import audit, baseline, check, data, report, run, show, sweep, train, victims
from vbench.errors import VbenchError

app = typer.Typer(
    name="vbench",
    help="Adversarial robustness of visible-infrared person re-identification.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
app.add_typer(data.app, name="data")
app.add_typer(victims.app, name="victims")
app.add_typer(sweep.app, name="sweep")
app.command("run")(run.run)
app.command("audit")(audit.audit)
app.command("baseline")(baseline.baseline)
app.command("check")(check.check)
app.command("report")(report.report)
app.command("train")(train.train)
app.command("list")(show.list_entries)
app.command("describe")(show.describe)
app.command("doctor")(show.doctor)


def main() -> None:
    """Entry point of ``vbench``: one line and an exit code instead of a traceback.

    Exit codes: 0 done, 1 the work failed, 2 bad input.
    """
    try:
        app()
    except VbenchError as error:
        print(f"vbench: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("vbench: interrupted; finished runs are kept", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"vbench: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        sys.exit(1)
