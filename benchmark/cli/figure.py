"""``vbench figure``: one figure of stored records, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vbench.cli.output import put


def figure(
    name: Annotated[str, typer.Argument(help="Figure; vbench list figures shows them.")],
    run: Annotated[
        list[str] | None, typer.Option(help="Id of a run, or its beginning; repeatable.", show_default="all")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help='Only these records: "victim=agw eps=8/255", as in vbench report.')
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of run records, or an archive.")] = Path("runs"),
    out: Annotated[
        Path | None, typer.Option(help="File: .png, .svg or .pdf.", show_default="NAME.png here")
    ] = None,
    style: Annotated[
        str | None, typer.Option("--format", help="png, svg or pdf.", show_default="as --out ends")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="r1, r5, r10, r20, map or minp.", show_default="r1")
    ] = None,
    width: Annotated[
        str | None, typer.Option(help="column (3.4 in) or full (7 in).", show_default="the figure's own")
    ] = None,
    query: Annotated[
        int | None, typer.Option(help="Number of a kept query.", show_default="some that lose most")
    ] = None,
) -> None:
    """Draw one figure from records, and from what vbench run --keep stored beside them."""
    from vbench.cli.report import read_records
    from vbench.files import write_atomically
    from vbench.reports.figures.catalogue import draw, find
    from vbench.reports.figures.pick import by_id
    from vbench.reports.select import select

    find(name)
    path, ending = _target(name, out, style)
    records = read_records(runs)
    if run:
        records = by_id(records, run)
    if where is not None:
        records = select(records, where)
    drawn = draw(name, records, runs, metric, width, query)

    from vbench.reports.figures.drawing import encode

    write_atomically(path, encode(drawn, ending))
    put(path)


def _target(name: str, out: Path | None, style: str | None) -> tuple[Path, str]:
    """Where to write, and in which format."""
    from vbench.errors import BadInput, unknown_name

    formats = ("png", "svg", "pdf")
    if style is not None and style not in formats:
        raise unknown_name("format of a figure", style, formats)
    if out is None:
        return Path(f"{name}.{style or 'png'}"), style or "png"
    ending = out.suffix.lower().lstrip(".")
    if style is None and ending not in formats:
        raise BadInput(f"--out {out} does not end in .png, .svg or .pdf; rename it, or give --format")
    if style is not None and ending in formats and ending != style:
        raise BadInput(f"--out {out} is no {style} file by its name; leave --format away, or rename it")
    return out, style or ending
