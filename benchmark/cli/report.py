"""``vbench report``: tables from stored records, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    style: Annotated[
        str, typer.Option("--format", help="markdown, csv, json, latex, plain, or jsonl: an archive.")
    ] = "markdown",
    runs: Annotated[Path, typer.Option(help="Folder of run records, or an archive.")] = Path("runs"),
    compare: Annotated[
        str | None, typer.Option(help="A row an attack, a column a victim: r1, r10, map, minp ...")
    ] = None,
) -> None:
    """Print before/after tables of every stored run; one table a protocol and budget."""
    from vbench.errors import BadInput
    from vbench.progress import say
    from vbench.reports.compare import comparison
    from vbench.reports.render import report as render
    from vbench.store import RunStore, to_archive

    if not runs.exists():
        raise BadInput(f"no folder of runs at {runs}; make one with vbench run, or give --runs")
    contents = RunStore(runs).read_all()
    for path, reason in contents.broken:
        say(f"skipped {path}: {reason}")
    if not contents.records:
        raise BadInput(f"no readable run record in {runs}")
    if style == "jsonl":
        typer.echo(to_archive(contents.records), nl=False)
    elif compare:
        typer.echo(comparison(contents.records, compare, style))
    else:
        typer.echo(render(contents.records, style))
