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
    where: Annotated[
        str | None, typer.Option(help='Only these records: "victim=agw eps=8/255"; a repeated key is either.')
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="r1, r5, r10, r20, map, minp, asr, with commas.", show_default="r1,r10,map,minp,asr"
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(help="One table a victim, attack or dataset.", show_default="protocol and budget"),
    ] = None,
    versus: Annotated[
        str | None, typer.Option(help="An attack: adds p of each row against it, paired over queries.")
    ] = None,
    compare: Annotated[
        str | None, typer.Option(help="A row an attack, a column a victim: r1, r10, map, minp ...")
    ] = None,
    published: Annotated[bool, typer.Option("--published", help="Published figures alone.")] = False,
) -> None:
    """Print before/after tables of stored runs: drop, interval, best in bold, knowledge, budget and cost."""
    from vbench.errors import BadInput
    from vbench.reports.select import pick_metrics, select

    picked = None if metrics is None else pick_metrics(metrics)
    for one, other in ((compare, metrics), (compare, group), (compare, versus)):
        if one and other:
            raise BadInput("--compare is a table of its own: leave --metrics, --group and --versus away")
    if published:
        if compare or group or versus or style == "jsonl":
            raise BadInput("--published goes with --format, --metrics and --where alone")
        typer.echo(_published(style, picked, where))
        return
    records = read_records(runs)
    if where is not None:
        records = select(records, where)
    if style == "jsonl":
        from vbench.store import to_archive

        typer.echo(to_archive(records), nl=False)
    elif compare:
        from vbench.reports.compare import comparison

        typer.echo(comparison(records, compare, style))
    else:
        from vbench.reports.full import report_of

        typer.echo(report_of(records, style, picked, group, versus))


def read_records(runs: Path) -> list:
    """The records of a folder or an archive; what cannot be read is named on standard error."""
    from vbench.errors import BadInput
    from vbench.progress import say
    from vbench.store import RunStore

    if not runs.exists():
        raise BadInput(f"no folder of runs at {runs}; make one with vbench run, or give --runs")
    contents = RunStore(runs).read_all()
    for path, reason in contents.broken:
        say(f"skipped {path}: {reason}")
    if not contents.records:
        raise BadInput(f"no readable run record in {runs}")
    return contents.records


def _published(style: str, metrics: tuple[str, ...] | None, where: str | None) -> str:
    from vbench.reports.printed import printed_report
    from vbench.reports.published import published
    from vbench.reports.select import select_published

    figures = published() if where is None else select_published(published(), where)
    return printed_report(figures, style, metrics)
