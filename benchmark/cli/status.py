"""``vbench status``: how far sweeps have come."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vbench.cli.output import put


def status(
    suite: Annotated[
        Path | None, typer.Argument(help="Suite file.", show_default="every sweep over --runs")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of run records.")] = Path("runs"),
    style: Annotated[str, typer.Option("--format", help="plain or json.")] = "plain",
) -> None:
    """Say how many runs of a sweep are done, running, failed and why, or to do, and how long that takes."""
    import json

    from vbench.errors import unknown_name
    from vbench.sweep.status import as_json, show, sweeps

    if style not in ("plain", "json"):
        raise unknown_name("format", style, ("plain", "json"))
    found = sweeps(runs, suite)
    if style == "json":
        put(json.dumps([as_json(sweep) for sweep in found], indent=1))
    else:
        put("\n\n".join(show(sweep) for sweep in found))
