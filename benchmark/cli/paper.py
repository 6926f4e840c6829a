"""``vbench paper``: the tables of the paper behind ``fsam_uap``, each by one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vbench.cli.output import put


def paper(
    suite: Annotated[
        str | None,
        typer.Argument(help="comparison, systems, ablation, blocks, attention or all.", show_default="lists"),
    ] = None,
    victim: Annotated[
        list[str] | None, typer.Option(help="Victim, repeatable, or all.", show_default="the suite's")
    ] = None,
    dataset: Annotated[str, typer.Option(help="synthetic, or sysu, regdb, llcm with --root.")] = "synthetic",
    root: Annotated[Path | None, typer.Option(help="Folder of a real data set.")] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="Checkpoint: FILE, or agw=FILE for each victim; {trial} is the RegDB split."),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help="Protocol id, repeatable; regdb/vis2ir is all ten splits.", show_default="the layout's"
        ),
    ] = None,
    layout: Annotated[str, typer.Option(help="Layout of the synthetic set.")] = "sysu",
    size: Annotated[
        str | None, typer.Option(help="Size of the synthetic set, height x width.", show_default="64x32")
    ] = None,
    eps: Annotated[str, typer.Option(help="L_inf budget in [0, 1] pixel units.")] = "8/255",
    seed: Annotated[list[int] | None, typer.Option(help="Seed, repeatable.", show_default="0")] = None,
    preset: Annotated[
        str, typer.Option(help="Settings of fsam_uap: paper, strong, or default for its defaults.")
    ] = "paper",
    level: Annotated[str, typer.Option(help="Where the attack acts: pixel, feature or both.")] = "both",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting of every attack that has it, as in evaluations=2560."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of run records.")] = Path("runs"),
    force: Annotated[
        bool, typer.Option(help="Run again even if the record exists, and trust no cache.")
    ] = False,
    ignore_gates: Annotated[
        bool, typer.Option("--ignore-gates", help="Run despite chance-level weights or a foreign split.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    precision: Annotated[str, typer.Option(help="As of vbench run.")] = "auto",
    style: Annotated[
        str, typer.Option("--format", help="Table: plain, markdown, latex, csv, json.")
    ] = "plain",
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Run a suite of the paper and print its table; what is recorded is not run again.

    Without a suite: what there is. On real data the published figures stand beside. Exit code 1 if a run
    fails or the work is interrupted; what is done is printed and kept.
    """
    from vbench.errors import unknown_name
    from vbench.paper.catalogue import SUITES, suites_called
    from vbench.paper.suite import LEVELS
    from vbench.reports.render import check_format

    if suite is None:
        for one in SUITES.values():
            put(f"{one.name:<12}{one.title}: {_rows(one)}; {', '.join(one.victims)}")
        put(f"{'all':<12}every one of them")
        return
    chosen = suites_called(suite)
    check_format(style)
    if level not in (*LEVELS, "both"):
        raise unknown_name("level", level, (*LEVELS, "both"))

    from vbench.cli.data import parse_size
    from vbench.paper.checkpoints import Checkpoints
    from vbench.paper.plan import Opener, Request, make_plan
    from vbench.paper.protocols import expand
    from vbench.paper.settings import Settings
    from vbench.paper.victims import victims_of
    from vbench.paper.work import Work
    from vbench.parameters import read_settings
    from vbench.prepare import Choice
    from vbench.recorder import Recorder
    from vbench.reports.paper import paper_report
    from vbench.store import RunStore
    from vbench.threat import ThreatModel

    threat = ThreatModel(eps)
    choice = Choice(
        dataset,
        root,
        layout=layout,
        size=parse_size(size) if size else None,
        device=device,
        ignore_gates=ignore_gates,
        precision=precision,
        fresh=force,
    )
    checkpoints = Checkpoints(weights or ())
    request = Request(
        {one.name: one for one in chosen},
        victims_of(chosen, victim or (), checkpoints, choice, quiet),
        choice,
        checkpoints,
        threat,
        Settings(preset, read_settings(settings or [])),
        expand(protocol or ()) or (None,),
        seed or (0,),
        LEVELS if level == "both" else (level,),
    )
    opener, store = Opener(request, quiet), RunStore(runs)
    recorder = Recorder(store, force, ignore_gates, quiet)
    recorder.check_writable()
    plan = make_plan(request, opener)
    work = Work(plan, threat, opener, recorder, store, force, quiet)
    work.do(f"paper {suite}")
    put(paper_report(work.filled(), style))
    _close(work, runs, style)


def _rows(suite) -> str:
    return ", ".join(line.name for line in suite.lines)


def _close(work, runs: Path, style: str) -> None:
    from vbench.progress import say

    if style == "plain":
        put(f"\nrecords in {runs}; the same command goes on where this one stopped")
    if work.interrupted:
        say("interrupted; finished runs are kept")
    if work.failures:
        say(f"{len(work.failures)} of {len(work.plan.jobs)} runs failed; the reasons stand below the tables")
    if work.interrupted or work.failures:
        raise typer.Exit(1)
