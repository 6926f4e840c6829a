"""``vbench sweep``: many runs, from a suite file or as a transfer matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from vbench.cli.output import end_with, put


class _SuiteFirst(TyperGroup):
    """Lets ``vbench sweep suite.yaml`` mean ``vbench sweep run suite.yaml``."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
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


@app.command("run")
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
        typer.Option(min=1, help="Local processes.", show_default="the suite's, else a core or GPU each"),
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="Do one part only, as in 2/8: the second of eight, for job arrays.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed/--keep-failed", help="Try again what failed before, or leave it.")
    ] = True,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Run classes that the suite names by path.")
    ] = False,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Draw data and train thin victims only, before shards start.")
    ] = False,
    runs: Annotated[Path, typer.Option(help="Folder of run records.")] = Path("runs"),
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Do the runs of a suite that have no record yet; also written vbench sweep SUITE.

    Exit code 0 when every run is done, 1 when some failed or are missing, 2 for a suite that is wrong.
    """
    from vbench.errors import BadInput, unknown_name
    from vbench.sweep.code import refuse_code
    from vbench.sweep.load import read_suite
    from vbench.sweep.select import parse_shard, tasks_of
    from vbench.sweep.select import shard as part

    if engine not in ("local", "ray"):
        raise unknown_name("engine", engine, ("local", "ray"))
    if address is not None and engine != "ray":
        raise BadInput("--address is for --engine ray")
    if jobs is not None and engine != "local":
        raise BadInput("--jobs is for --engine local; a cluster runs what its resources let it")
    if not suite.is_file() and suite.suffix not in (".yaml", ".yml"):
        raise unknown_name("command or suite file", str(suite), ("transfer", "run"))
    index, count = parse_shard(shard) if shard else (1, 1)
    file = read_suite(suite)
    tasks = tasks_of(file)
    if not allow_code:
        refuse_code(file)

    from vbench.sweep.check import check_suite
    from vbench.sweep.conduct import Wishes, conduct
    from vbench.sweep.engines import local_engine, ray_engine
    from vbench.sweep.summary import summary

    check_suite(file, files_are_here=engine == "local")
    make = local_engine(file, runs, jobs, quiet) if engine == "local" else ray_engine(file, address)
    wishes = Wishes(runs, retry_failed, prepare, quiet)
    result = conduct(file, tasks, part(tasks, index, count), wishes, make)
    put(summary(result, runs, prepare))
    if result.failed or not (prepare or result.complete):
        raise typer.Exit(1)


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
    put(transfer_matrices(records, metric))
    end_with(series.failures.lost)
