"""The commands sweep, status and paper."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vbench.cli.examples import EXAMPLES
from vbench.cli.options import Chance, DryRun, Force, Quiet, Runs, Style, Wide, check_style, takes
from vbench.cli.output import end_with, put
from vbench.cli.run import planned_table


class _SuiteFirst(TyperGroup):
    """Reads ``vbench sweep suite.yaml`` as ``vbench sweep run suite.yaml``."""

    # The base class takes click's Context; typer.Context is a subclass.
    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_SuiteFirst,
    help="Many runs: vbench sweep suite.yaml, or one of these commands.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    """Many runs: vbench sweep suite.yaml, or one of these commands."""


@app.command("run", epilog=EXAMPLES["sweep run"])
def run(
    suite: Annotated[Path, typer.Argument(help="Suite file; see docs/sweeps.md.")],
    engine: Annotated[
        str, typer.Option(help="local: processes of this machine; ray: a Ray cluster.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Address of the Ray cluster.", show_default="RAY_ADDRESS, or one on this host"),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Local processes.", show_default="the suite's, else one per core or GPU"),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(help="One part of the runs, as in 2/8: the second of eight; for job arrays."),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed/--keep-failed", help="Repeat runs that failed before, or not.")
    ] = True,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Run classes that the suite names by path.")
    ] = False,
    prepare: Annotated[
        bool,
        typer.Option("--prepare", help="Only write synthetic data and train thin victims, before sharding."),
    ] = False,
    dry_run: DryRun = False,
    runs: Runs = Path("runs"),
    quiet: Quiet = False,
) -> None:
    """Execute the runs of a suite that have no record yet; also written vbench sweep SUITE.

    Exit code 0 if every run is done, 1 if some failed or are missing, 2 if the suite is invalid.
    """
    from vbench.core.errors import BadInput, unknown_name
    from vbench.core.files import check_writable
    from vbench.sweep.read import read_suite, refuse_code
    from vbench.sweep.tasks import parse_shard, tasks_of
    from vbench.sweep.tasks import shard as part

    if engine not in ("local", "ray"):
        raise unknown_name("engine", engine, ("local", "ray"))
    if address is not None and engine != "ray":
        raise BadInput("--address is for --engine ray")
    if jobs is not None and engine != "local":
        raise BadInput("--jobs is for --engine local; on Ray the cluster's resources decide")
    if not suite.is_file() and suite.suffix not in (".yaml", ".yml"):
        raise unknown_name("command or suite file", str(suite), ("transfer", "run"))
    index, count = parse_shard(shard) if shard else (1, 1)
    file = read_suite(suite)
    tasks = tasks_of(file)
    if allow_code:
        tasks = [replace(task, group=replace(task.group, allow_code=True)) for task in tasks]
    else:
        refuse_code(file)

    from vbench.run.plan import plan
    from vbench.run.session import Session
    from vbench.sweep.check import check_suite
    from vbench.sweep.schedule import Wishes, conduct, local_engine, ray_engine, summary

    check_suite(file, files_are_here=engine == "local")
    check_writable(runs)
    mine, wishes = part(tasks, index, count), Wishes(runs, retry_failed, prepare, quiet)
    if dry_run:
        session = Session(runs, quiet=quiet)
        session.check(mine)
        put(planned_table(plan(session, mine), "plain"))
        return
    if engine == "local":
        result = conduct(file, tasks, mine, wishes, local_engine(file, runs, jobs, quiet))
    else:
        result = conduct(file, tasks, mine, wishes, ray_engine(file, runs, address))
    put(summary(result, runs, prepare))
    if result.failed or not (prepare or result.complete):
        raise typer.Exit(1)


@app.command("transfer", epilog=EXAMPLES["sweep transfer"])
@takes(
    *("attack", "victim", "surrogate", "layout", "size", "protocol", "eps", "norm", "side", "seed", "device"),
    "allow_code",
    several=("attack", "victim", "surrogate", "seed"),
    surrogate={"help": "Surrogate, repeatable, or all.", "shown": "the victims"},
    protocol={"help": "Protocol id."},
    eps={"shown": "8/255; none with l2"},
    side={"default": "query", "shown": None},
)
def transfer(
    metric: Annotated[str, typer.Option(help="r1, r5, r10, r20, map or minp.")] = "r1",
    runs: Runs = Path("runs"),
    quiet: Quiet = False,
    **given: Any,
) -> None:
    """Craft on each surrogate, test on each victim; print the matrix of a metric after the attack.

    Uses synthetic data, for which every model has weights; recorded runs are not repeated.
    """
    from vbench.core.errors import unknown_name
    from vbench.core.threat import ThreatModel
    from vbench.records.spec import models, run_specs, spec_of
    from vbench.reports.rows import HEADINGS
    from vbench.reports.transfer import transfer_matrices
    from vbench.run.session import Session
    from vbench.victims.build import victim_names

    if metric not in HEADINGS:
        raise unknown_name("metric", metric, HEADINGS)
    victims, attacks, surrogates, seeds = map(given.pop, ("victim", "attack", "surrogate", "seed"))
    threat = ThreatModel(given["eps"], given["norm"], given["side"])
    one = spec_of({**given, "eps": given["eps"] or str(threat.card()["eps"])})
    turns = [models([name], ()) for name in victim_names(surrogates or victims)]
    session = Session(runs, quiet=quiet)
    protocols = [one.group.data.protocol]
    records = session.run_all(run_specs(one, victims, attacks, seeds or [0], protocols, turns))
    put(transfer_matrices(records, metric))
    end_with(session.failures.lost)


def status(
    suite: Annotated[
        Path | None, typer.Argument(help="Suite file.", show_default="every sweep over --runs")
    ] = None,
    runs: Runs = Path("runs"),
    style: Style = "plain",
) -> None:
    """Show how many runs of a sweep are done, running, failed (and why) or to do, and the time left."""
    import json

    from vbench.sweep.state import as_json, show, sweeps

    check_style(style)
    found = sweeps(runs, suite)
    if style == "json":
        put(json.dumps([as_json(sweep) for sweep in found], indent=1))
    else:
        put("\n\n".join(show(sweep) for sweep in found))


@takes(
    *("victim", "dataset", "root", "weights", "protocol", "layout", "size", "eps", "seed", "settings"),
    *("ignore_gates", "device", "precision"),
    several=("victim", "weights", "protocol", "seed"),
    victim={"default": None, "shown": "the suite's"},
    weights={
        "help": "Checkpoint: FILE, or agw=FILE for each victim; {trial} is the RegDB split.",
        "kind": str,
    },
    protocol={"help": "Protocol id, repeatable; regdb/vis2ir is all ten splits."},
    eps={"help": "L_inf budget in [0, 1] pixel units.", "default": "8/255", "shown": None},
    settings={"help": "Setting of every attack that has it, as in evaluations=2560."},
)
def paper(
    suite: Annotated[
        str | None,
        typer.Argument(
            help="comparison, systems, ablation, blocks, attention, all of these, or model.",
            show_default="list",
        ),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            help="Settings that the rows of fsam_uap run with, see vbench describe attack fsam_uap: paper, "
            "strong, v1, v1_paper, or default for no preset."
        ),
    ] = "paper",
    level: Annotated[
        str, typer.Option(help="Where the attack acts: pixel, feature or both; model has a suite.")
    ] = "both",
    runs: Runs = Path("runs"),
    force: Force = False,
    style: Annotated[
        str, typer.Option("--format", help="Table: plain, markdown, latex, csv, json.")
    ] = "plain",
    chance: Chance = False,
    wide: Wide = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    **given: Any,
) -> None:
    """Run a suite of the paper and print its table; recorded runs are not repeated.

    Without a suite: list the suites. On real data the table also shows the published values. Exit code 1 if a
    run fails or the work is interrupted; finished runs are printed and kept.
    """
    from vbench.core.errors import BadInput, unknown_name
    from vbench.reports.table import check_format
    from vbench.sweep.paper import LEVELS, SUITES, suites_called

    if suite is None:
        for one in SUITES.values():
            rows = ", ".join(line.name for line in one.lines)
            put(f"{one.name:<12}{one.title}: {rows}; {', '.join(one.victims)}")
        put(f"{'all':<12}all suites but model, which trains victims for hours")
        return
    chosen = suites_called(suite)
    check_format(style)
    if level not in (*LEVELS, "both"):
        raise unknown_name("level", level, (*LEVELS, "both"))
    if level != "both" and suite == "model":
        raise BadInput(f"--level {level}: the suite model has a level of its own")

    from vbench.core.progress import say
    from vbench.core.settings import read_settings
    from vbench.records.spec import spec_of
    from vbench.run.plan import plan
    from vbench.run.session import Session
    from vbench.sweep.paper import Settings, expand, fill, read_weights, slots_of, victims_of
    from vbench.sweep.paper_table import paper_report

    names = ("victim", "weights", "protocol", "seed", "settings")
    victims, weights, protocols, seeds, settings = map(given.pop, names)
    files = read_weights(weights or ())
    session = Session(runs, force, quiet, weights_option="--weights {victim}=FILE")
    slots = slots_of(
        session,
        victims_of(chosen, victims or (), files, given["dataset"], quiet),
        spec_of(given | {"attack": "fsam_uap", "side": "query"}),
        files,
        Settings(preset, read_settings(settings or [])),
        expand(protocols or ()) or ("",),
        seeds or (),
        () if level == "both" else (level,),
        quiet,
        dry_run,
    )
    if dry_run:
        unfit = [(one.line.name, one.victim, one.reason) for one in slots if one.reason]
        for row, model, reason in dict.fromkeys(unfit):
            say(f"{row} on {model} does not apply: {reason}")
        specs = list(dict.fromkeys(slot.spec for slot in slots if slot.spec))
        put(planned_table(plan(session, specs), style))
        return
    complete = fill(slots, session, f"paper {suite}", quiet)
    put(paper_report(slots, style, chance, wide))
    if style == "plain":
        put(f"\nrecords in {runs}; the same command continues where this one stopped")
    if not complete:
        say("interrupted; finished runs are kept")
    failed = {slot.spec for slot in slots if slot.state == "failed"}
    if failed:
        total = len({slot.spec for slot in slots if slot.spec})
        say(f"{len(failed)} of {total} runs failed; the reasons are below the tables")
    if failed or not complete:
        raise typer.Exit(1)
