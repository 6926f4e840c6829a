"""``vbench sweep``: many runs, one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Many runs, one table.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Many runs, one table."""


@app.command("transfer")
def transfer(
    attack: Annotated[list[str], typer.Option(help="Attack, repeatable; settings as in pgd[steps=20].")],
    victim: Annotated[list[str], typer.Option(help="Victim, repeatable, or all.")],
    surrogate: Annotated[
        list[str] | None, typer.Option(help="Surrogate, repeatable, or all.", show_default="the victims")
    ] = None,
    layout: Annotated[str, typer.Option(help="Layout of the synthetic set.")] = "sysu",
    size: Annotated[
        str | None, typer.Option(help="Size of the synthetic set, height x width.", show_default="64x32")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="Protocol id.", show_default="the layout's")] = None,
    eps: Annotated[str, typer.Option(help="Budget in [0, 1] pixel units.")] = "8/255",
    norm: Annotated[str, typer.Option(help="linf or l2.")] = "linf",
    side: Annotated[str, typer.Option(help="Which images are changed: query, gallery or both.")] = "query",
    seed: Annotated[list[int] | None, typer.Option(help="Seed, repeatable.", show_default="0")] = None,
    metric: Annotated[str, typer.Option(help="r1, r5, r10, r20, map or minp.")] = "r1",
    runs: Annotated[Path, typer.Option(help="Folder of run records.")] = Path("runs"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Craft on each surrogate, show to each victim; print the matrix of what the ranking is worth then.

    Works on synthetic data, where every model has weights; runs that are recorded are not done again.
    """
    from vbench.cli.data import parse_size
    from vbench.errors import unknown_name
    from vbench.prepare import Choice
    from vbench.reports.rows import HEADINGS
    from vbench.reports.transfer import transfer_matrices
    from vbench.series import Series
    from vbench.threat import ThreatModel
    from vbench.victim_spec import names

    if metric not in HEADINGS:
        raise unknown_name("metric", metric, HEADINGS)
    threat = ThreatModel(eps, norm, side)
    height_width = parse_size(size) if size else None
    choice = Choice(layout=layout, size=height_width, device=device)
    series = Series(choice, threat, runs, quiet=quiet)
    records = series.execute(
        victim,
        attack,
        seed or [0],
        {},
        [protocol] if protocol else (),
        surrogates=names(surrogate or victim),
    )
    typer.echo(transfer_matrices(records, metric))
