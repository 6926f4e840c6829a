"""``vbench run``: attack victims and print the before/after table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vbench.cli.options import takes_request
from vbench.cli.output import end_with, put
from vbench.request import Request


@takes_request
def run(
    request: Request,
    seed: Annotated[list[int] | None, typer.Option(help="Seed, repeatable.", show_default="0")] = None,
    perturbation: Annotated[
        Path | None, typer.Option(help="Replay this learnt perturbation instead of learning one.")
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(help="For figures, store beside the records: embeddings, images, or both with a comma."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of run records.")] = Path("runs"),
    force: Annotated[
        bool, typer.Option(help="Run again even if the record exists, and trust no cache.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    style: Annotated[
        str, typer.Option("--format", help="Table: plain, markdown, csv, json, latex.")
    ] = "plain",
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Attack victims on a data set, store a record of each run, print the ranking before and after."""
    from vbench.kept import read_keep
    from vbench.reports.render import check_format, report

    check_format(style)
    kept = read_keep(keep) if keep is not None else ()
    series = request.series(runs, device, force, quiet, kept)
    records = series.execute(
        request.victims, request.attacks, seed or [0], request.settings, request.protocols, perturbation
    )
    put(report(records, style, series.failures.lost))
    if style == "plain":
        put(f"\nrecords in {runs}; tables again with: vbench report --runs {runs} --format markdown")
    end_with(series.failures.lost)
