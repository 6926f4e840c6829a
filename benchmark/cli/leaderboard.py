"""``vbench leaderboard``: a static site of the records of many people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vbench.cli.output import put


def leaderboard(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Folders of run records, or archives.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the site; a former site there is replaced.")],
    where: Annotated[
        str | None, typer.Option(help='Only these records: "victim=agw eps=8/255"; a repeated key is either.')
    ] = None,
    title: Annotated[str, typer.Option(help="Title of the site.")] = "vbench leaderboard",
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing and exit with 1 if any record is refused.")
    ] = False,
) -> None:
    """Verify records of many people, merge them, and write a site that opens from disk or any web server.

    A line for each record that does not verify says why. Exits with 2 if none does.
    """
    from vbench.progress import say
    from vbench.reports.leaderboard.build import leaderboard as build

    summary = build(folders, out, where, title, strict, tell=say)
    put(summary.line)
    if strict and summary.refused:
        say(f"nothing written: {len(summary.refused)} refused, and --strict was given")
        raise typer.Exit(1)
    put(f"site in {out}; open {out / 'index.html'}")
