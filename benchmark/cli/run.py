"""``vbench run``: attack victims and print the before/after table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    victim: Annotated[list[str], typer.Option(help="Victim, repeatable, or all.")],
    attack: Annotated[
        list[str], typer.Option(help="Attack, repeatable, or all; settings as in pgd[steps=20].")
    ],
    dataset: Annotated[
        str,
        typer.Option(help="synthetic; or sysu, regdb, llcm, a reader's name or ./file.py:Class with --root."),
    ] = "synthetic",
    root: Annotated[Path | None, typer.Option(help="Folder of a real data set.")] = None,
    layout: Annotated[str, typer.Option(help="Layout of the synthetic set.")] = "sysu",
    size: Annotated[
        str | None, typer.Option(help="Size of the synthetic set, height x width.", show_default="64x32")
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(help="Protocol id, repeatable; see vbench data protocols.", show_default="the layout's"),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Checkpoint, released or trained here.")] = None,
    eps: Annotated[
        str | None,
        typer.Option(help="Budget in [0, 1] pixel units.", show_default="8/255, or the attack preset's"),
    ] = None,
    norm: Annotated[str, typer.Option(help="linf or l2.")] = "linf",
    side: Annotated[
        str | None,
        typer.Option(
            help="Which images are changed: query, gallery or both.",
            show_default="query, or the attack preset's",
        ),
    ] = None,
    quantize: Annotated[bool, typer.Option(help="Round adversarial images to 8 bits.")] = True,
    seed: Annotated[list[int] | None, typer.Option(help="Seed, repeatable.", show_default="0")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Setting of every attack named, as in steps=20.")
    ] = None,
    perturbation: Annotated[
        Path | None, typer.Option(help="Replay this learnt perturbation instead of learning one.")
    ] = None,
    surrogate: Annotated[
        list[str] | None,
        typer.Option(help="Craft on this victim instead (transfer); repeated, on an ensemble."),
    ] = None,
    surrogate_weights: Annotated[
        list[Path] | None, typer.Option(help="Checkpoint of a surrogate, in the same order.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of run records.")] = Path("runs"),
    keep: Annotated[
        str | None,
        typer.Option(help="For figures, store beside the records: embeddings, images, or both with a comma."),
    ] = None,
    force: Annotated[bool, typer.Option(help="Run again even if the record exists.")] = False,
    ignore_gates: Annotated[
        bool, typer.Option("--ignore-gates", help="Run despite chance-level weights or a foreign split.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            help="What victims compute in: float32, bfloat16, float16; auto tries on a GPU what pays."
        ),
    ] = "auto",
    channels_last: Annotated[
        bool | None,
        typer.Option(
            "--channels-last/--no-channels-last", help="Layout of images.", show_default="as precision auto"
        ),
    ] = None,
    style: Annotated[
        str, typer.Option("--format", help="Table: plain, markdown, csv, json, latex.")
    ] = "plain",
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Attack victims on a data set, store a record of each run, print the ranking before and after."""
    from vbench.cli.data import parse_size
    from vbench.kept import read_keep
    from vbench.parameters import read_settings
    from vbench.reports.render import check_format, report
    from vbench.threat import ThreatModel

    check_format(style)
    kept = read_keep(keep) if keep is not None else ()
    threat = ThreatModel("8/255" if eps is None else eps, norm, "query" if side is None else side, quantize)
    stated = [name for name, value in (("eps", eps), ("side", side)) if value is not None]
    height_width = parse_size(size) if size else None

    from vbench.prepare import Choice
    from vbench.series import Series

    choice = Choice(
        dataset,
        root,
        None,
        layout,
        height_width,
        weights,
        device,
        ignore_gates,
        tuple(surrogate or ()),
        tuple(surrogate_weights or ()),
        precision=precision,
        channels_last=channels_last,
    )
    series = Series(choice, threat, runs, force=force, quiet=quiet, stated=stated, keep=kept)
    records = series.execute(
        victim, attack, seed or [0], read_settings(settings or []), protocol or (), perturbation
    )
    typer.echo(report(records, style))
    if style == "plain":
        typer.echo(f"\nrecords in {runs}; tables again with: vbench report --runs {runs} --format markdown")
