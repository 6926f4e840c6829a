"""``vbench audit``: does the evaluation of a victim itself hold?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vbench.cli.output import put


def audit(
    victim: Annotated[str, typer.Option(help="Victim; options as in deen[embedding=weighted].")],
    dataset: Annotated[
        str,
        typer.Option(help="synthetic; or sysu, regdb, llcm, a reader's name or ./file.py:Class with --root."),
    ] = "synthetic",
    root: Annotated[Path | None, typer.Option(help="Folder of a real data set.")] = None,
    layout: Annotated[str, typer.Option(help="Layout of the synthetic set.")] = "sysu",
    size: Annotated[
        str | None, typer.Option(help="Size of the synthetic set, height x width.", show_default="64x32")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="Protocol id.", show_default="the layout's")] = None,
    weights: Annotated[Path | None, typer.Option(help="Checkpoint, released or trained here.")] = None,
    eps: Annotated[str, typer.Option(help="L_inf budget in [0, 1] pixel units.")] = "8/255",
    seed: Annotated[int, typer.Option(help="Seed of the attacks.")] = 0,
    queries: Annotated[int, typer.Option(help="Queries to use, evenly spread; more see finer.")] = 96,
    runs: Annotated[Path, typer.Option(help="Folder of run records; audits go to audits/.")] = Path("runs"),
    ignore_gates: Annotated[
        bool, typer.Option("--ignore-gates", help="Audit despite chance-level weights or a foreign split.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    style: Annotated[str, typer.Option("--format", help="plain, markdown, json, csv or latex.")] = "plain",
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Check that attacks on a victim mean what they seem to: gradients, randomness, batches, budget.

    Exits with 1 if a line fails.
    """
    from vbench.cli.data import parse_size
    from vbench.reports.audit import check_format, render
    from vbench.threat import ThreatModel

    check_format(style)
    threat = ThreatModel(eps)
    height_width = parse_size(size) if size else None

    from vbench.audit.audit import audit as examine
    from vbench.audit.audit import check_identities
    from vbench.audit.subset import with_queries
    from vbench.files import check_writable
    from vbench.folders import cache_folder
    from vbench.gates import clean_gate
    from vbench.prepare import Choice
    from vbench.progress import say
    from vbench.seeds import check_seed
    from vbench.upfront import Upfront
    from vbench.victim_spec import read_victim

    check_seed(seed)
    check_writable(runs)
    spec = read_victim(victim)
    choice = Choice(dataset, root, protocol, layout, height_width, weights, device, ignore_gates)
    ((_, opened),) = Upfront([choice], [spec]).open(cache_folder(), quiet)
    asked = with_queries(opened, queries)
    check_identities(asked)
    bench = choice.workbench(spec, asked, cache_folder(), quiet)
    if not ignore_gates:
        clean_gate(bench)
    found = examine(bench, threat, seed, len(opened.query), quiet)
    path = found.write(runs)
    put(render(found, style))
    say(f"audit in {path}", quiet)
    if not found.holds:
        raise typer.Exit(1)
