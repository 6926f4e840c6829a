"""``vbench baseline``: how strong attacks are today, for a gate to compare with tomorrow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vbench.cli.options import takes_request
from vbench.cli.output import put
from vbench.request import Request


@takes_request
def baseline(
    request: Request,
    out: Annotated[Path, typer.Option(help="File to write, as in baseline.json.")],
    seeds: Annotated[
        int, typer.Option(help="Seeds, 0, 1, ...; more give narrower bounds.", min=2, max=1000)
    ] = 5,
    false_alarm: Annotated[
        float, typer.Option(help="Chance, at most, that other seeds turn the gate red.", min=1e-6, max=0.4)
    ] = 0.005,
    force: Annotated[bool, typer.Option("--force", help="Overwrite --out.")] = False,
    runs: Annotated[
        Path | None, typer.Option(help="Keep the run records in this folder.", show_default="none")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Run attacks with several seeds; write what vbench check compares with, and its bounds.

    Paths that are given relative are kept relative to the file, so that a repository can be moved. Figures
    whose bounds no result could exceed are left out, and the exit code is 1: more seeds narrow them.
    """
    from vbench.errors import BadInput

    if out.is_dir():
        raise BadInput(f"--out {out} is a folder; name a file, such as {out / 'baseline.json'}")
    if out.exists() and not force:
        raise BadInput(
            f"--out {out} exists; vbench check {out} --update rewrites it with a diff, --force overwrites it"
        )
    from vbench.files import check_writable
    from vbench.gate.baseline import write_baseline
    from vbench.gate.make import make_baseline
    from vbench.reports.baseline import render_baseline, render_unguarded

    check_writable(out.parent)
    found = make_baseline(request, range(seeds), out.parent, false_alarm, device, quiet, runs)
    unguarded = found.unguarded(seeds)
    found = found.without(unguarded)
    write_baseline(out, found)
    put(render_baseline(found))
    put(f"\nbaseline in {out}; compare with it: vbench check {out}")
    if unguarded:
        put(f"\n{render_unguarded(unguarded)}")
        raise typer.Exit(1)
