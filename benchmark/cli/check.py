"""``vbench check``: is everything as strong, and as accurate, as its baseline says?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vbench.cli.output import put

if TYPE_CHECKING:
    from vbench.gate.baseline import Baseline


def check(
    file: Annotated[Path, typer.Argument(metavar="BASELINE.json", help="Written by vbench baseline.")],
    seeds: Annotated[
        int | None, typer.Option(help="How many seeds to run.", show_default="all of the baseline's", min=1)
    ] = None,
    first_seed: Annotated[
        int | None,
        typer.Option(help="Other seeds, counted from here.", show_default="the baseline's own", min=0),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML to this file.")] = None,
    summary: Annotated[
        Path | None, typer.Option(help="Append markdown to this file, as to $GITHUB_STEP_SUMMARY.")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Rewrite the baseline with what was found, and show the diff.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="Print every figure, not only what moved.")] = False,
    root: Annotated[
        Path | None, typer.Option(help="Folder of the data set.", show_default="the baseline's")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Checkpoint.", show_default="the baseline's")] = None,
    runs: Annotated[
        Path | None, typer.Option(help="Keep the run records in this folder.", show_default="none")
    ] = None,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Run classes that the baseline names by path.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Run a baseline's configurations again and compare: strength, clean accuracy, size and cost of attacks.

    An attack that became stronger is a finding like one that became weaker. Exits with 1 if anything moved,
    or if a figure's bounds are so wide that nothing could move it.
    """
    from vbench.errors import BadInput
    from vbench.gate.baseline import read_baseline

    baseline = read_baseline(file)
    from vbench.files import check_writable, write_atomically

    for name, path in (("--junit", junit), ("--summary", summary)):
        if path is not None and path.is_dir():
            raise BadInput(f"{name} {path} is a folder; name a file")
        if path is not None:
            check_writable(path.parent)
    from vbench.gate.make import check_against, seeds_for
    from vbench.reports.gate import render
    from vbench.reports.gate import summary as summary_of
    from vbench.reports.junit import to_junit

    _refuse_code(baseline, allow_code)
    chosen = seeds_for(baseline, seeds, first_seed)
    if update and len(chosen) < len(baseline.seeds):
        raise BadInput(
            f"--update with {len(chosen)} of {len(baseline.seeds)} seeds would widen every bound; "
            "leave --seeds away"
        )
    gate, takings = check_against(baseline, file.parent, chosen, root, weights, device, quiet, runs)
    if junit is not None:
        write_atomically(junit, to_junit(gate))
    if summary is not None:
        summary.parent.mkdir(parents=True, exist_ok=True)
        with summary.open("a", encoding="utf-8") as page:
            page.write(summary_of(gate))
    if not update:
        put(render(gate, every))
        raise typer.Exit(0 if gate.green else 1)

    from vbench.gate.make import updated

    _rewrite(file, baseline, updated(baseline, takings, chosen))


def _rewrite(file: Path, old: Baseline, new: Baseline) -> None:
    from vbench.gate.baseline import write_baseline
    from vbench.reports.baseline import render_unguarded, render_update

    unguarded = new.unguarded(len(new.seeds))
    new = new.without(unguarded)
    if (old.subjects, old.seeds) == (new.subjects, new.seeds):
        put(f"{file} says what was found, to the last bit; left as it is")
        return
    write_baseline(file, new)
    put(render_update(old, new))
    put(f"rewrote {file}; review it like any change, with git diff")
    if unguarded:
        put(f"\n{render_unguarded(unguarded)}")
        raise typer.Exit(1)


def _refuse_code(baseline: Baseline, allowed: bool) -> None:
    from vbench.errors import BadInput
    from vbench.gate.make import code_named

    named = [] if allowed else code_named(baseline.request)
    if named:
        raise BadInput(
            f"the baseline names code by path: {', '.join(named)}; running it runs that code. "
            "If it is yours, give --allow-code"
        )
