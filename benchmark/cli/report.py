"""``vbench report``: tables from stored records, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    style: Annotated[str, typer.Option("--format", help="markdown, csv, json, latex or plain.")] = "markdown",
    runs: Annotated[Path, typer.Option(help="Folder of run records.")] = Path("runs"),
) -> None:
    """Print before/after tables of every stored run; one table a protocol and budget."""
    from vbench.errors import BadInput
    from vbench.progress import say
    from vbench.reports.render import report as render
    from vbench.store import RunStore

    if not runs.is_dir():
        raise BadInput(f"no folder of runs at {runs}; make one with vbench run, or give --runs")
    contents = RunStore(runs).read_all()
    for path, reason in contents.broken:
        say(f"skipped {path}: {reason}")
    if not contents.records:
        raise BadInput(f"no readable run record in {runs}")
    typer.echo(render(contents.records, style))
