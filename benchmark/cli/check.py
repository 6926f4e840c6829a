"""The commands audit, baseline and check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vbench.cli.options import Quiet, Style, check_style, checked_request, takes
from vbench.cli.output import put
from vbench.records.spec import OPTIONS, SEVERAL

if TYPE_CHECKING:
    from vbench.gate.baseline import Baseline


@takes(
    *("victim", "dataset", "root", "layout", "size", "protocol", "weights", "eps", "seed"),
    *("ignore_gates", "allow_code", "device"),
    victim={"help": "Victim; options as in deen[embedding=weighted]."},
    protocol={"help": "Protocol id."},
    eps={"help": "L_inf budget in [0, 1] pixel units.", "default": "8/255", "shown": None},
    seed={"help": "Seed of the attacks.", "shown": None},
    ignore_gates={"help": "Audit even with Rank-1 at chance level or weights of another split."},
)
def audit(
    queries: Annotated[int, typer.Option(help="Queries, evenly spread; more find smaller errors.")] = 96,
    runs: Annotated[Path, typer.Option(help="Folder of run records; audits go to audits/.")] = Path("runs"),
    style: Annotated[
        str, typer.Option("--format", help="plain, markdown, html, json, csv or latex.")
    ] = "plain",
    quiet: Quiet = False,
    **given: Any,
) -> None:
    """Check whether results of attacks on a victim can be trusted: gradients, randomness, batches, budget.

    Exit code 1 if a check fails.
    """
    from vbench.audit.record import render
    from vbench.core.threat import ThreatModel
    from vbench.records.spec import spec_of
    from vbench.reports.table import FORMATS, check_format

    check_format(style, (*FORMATS, "html"))
    spec = spec_of(given)
    setup, threat = spec.group, ThreatModel(given["eps"])

    from vbench.audit import audit as examine
    from vbench.audit import check_identities
    from vbench.core.files import check_writable
    from vbench.core.progress import say
    from vbench.core.seeds import check_seed
    from vbench.data.open import with_queries
    from vbench.run.session import Session
    from vbench.run.summary import clean_gate

    check_seed(spec.seed)
    check_writable(runs)
    session = Session(quiet=quiet)
    opened = session.open([setup])[setup.data]
    reduced = with_queries(opened, queries)
    check_identities(reduced)
    bench = session.bench(setup, reduced)
    if not setup.ignore_gates:
        clean_gate(bench)
    found = examine(bench, threat, spec.seed, len(opened.query), quiet)
    path = found.write(runs)
    put(render(found, style))
    say(f"audit in {path}", quiet)
    if not found.holds:
        raise typer.Exit(1)


@takes(*(name for name in OPTIONS if name not in ("seed", "perturbation", "batch_size")), several=SEVERAL)
def baseline(
    out: Annotated[Path, typer.Option(help="File to write, as in baseline.json.")],
    seeds: Annotated[
        int, typer.Option(help="Seeds, 0, 1, ...; more give narrower bounds.", min=2, max=1000)
    ] = 5,
    false_alarm: Annotated[
        float,
        typer.Option(help="Highest probability of a red gate from new seeds alone.", min=1e-6, max=0.4),
    ] = 0.005,
    force: Annotated[bool, typer.Option("--force", help="Overwrite --out.")] = False,
    runs: Annotated[
        Path | None, typer.Option(help="Keep the run records in this folder.", show_default="none")
    ] = None,
    quiet: Quiet = False,
    **given: Any,
) -> None:
    """Run attacks with several seeds; write the results and bounds that vbench check compares with.

    Relative paths are stored relative to the file, so that a repository can be moved. Metrics whose bounds no
    result could exceed are left out, and the exit code is 1: more seeds narrow them.
    """
    from vbench.core.errors import BadInput

    request = checked_request(given)
    if out.is_dir():
        raise BadInput(f"--out {out} is a folder; name a file, such as {out / 'baseline.json'}")
    if out.exists() and not force:
        raise BadInput(
            f"--out {out} exists; vbench check {out} --update rewrites it with a diff, --force overwrites it"
        )
    from vbench.core.files import check_writable
    from vbench.gate.baseline import write_baseline
    from vbench.gate.compare import make_baseline
    from vbench.gate.report import render_baseline, render_unguarded

    check_writable(out.parent)
    options = (given["device"], quiet, runs, given["allow_code"])
    found = make_baseline(request, range(seeds), out.parent, false_alarm, *options)
    unguarded = found.unguarded(seeds)
    found = found.without(unguarded)
    write_baseline(out, found)
    put(render_baseline(found))
    put(f"\nbaseline in {out}; compare with it: vbench check {out}")
    if unguarded:
        put(f"\n{render_unguarded(unguarded)}")
        raise typer.Exit(1)


def check(
    file: Annotated[Path, typer.Argument(metavar="BASELINE.json", help="Written by vbench baseline.")],
    seeds: Annotated[
        int | None, typer.Option(help="How many seeds to run.", show_default="all of the baseline's", min=1)
    ] = None,
    first_seed: Annotated[
        int | None,
        typer.Option(help="Use consecutive seeds from here.", show_default="the baseline's own", min=0),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML to this file.")] = None,
    summary: Annotated[
        Path | None, typer.Option(help="Append markdown to this file, as to $GITHUB_STEP_SUMMARY.")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Rewrite the baseline with the new results, and show the diff.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="Print every metric, not only what moved.")] = False,
    style: Style = "plain",
    root: Annotated[
        Path | None, typer.Option(help="Folder of the data set.", show_default="the baseline's")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Checkpoint.", show_default="the baseline's")] = None,
    victim: Annotated[
        str | None,
        typer.Option(
            help="Judge this model: is it as strong as the baseline's?", show_default="the baseline's"
        ),
    ] = None,
    minimum: Annotated[
        list[str] | None,
        typer.Option(
            "--min", metavar="NAME.FIGURE=PERCENT", help="Floor of a model, as in clean.r1=70; repeatable."
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Points below the baseline's figures that a model may lie.", show_default="2, without --min"
        ),
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(help="Keep the run records in this folder.", show_default="none")
    ] = None,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Run classes that the baseline names by path.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    quiet: Quiet = False,
) -> None:
    """Run a baseline's configurations again and compare: strength, clean accuracy, size and cost of attacks.

    An attack that became stronger is reported like one that became weaker. Exit code 1 if anything moved, or
    if the bounds of a metric are so wide that no result could exceed them.

    With --victim, --min or --tolerance another model is judged: Rank-1 (r1) and mAP (map), clean and under
    each attack, must not be below their floors. Without --min these are the baseline's figures less the
    tolerance. Exit code 1 if the model is weaker.
    """
    from vbench.core.errors import BadInput
    from vbench.gate.baseline import read_baseline

    check_style(style)
    if update and style == "json":
        raise BadInput("--update prints what it changes as text; leave --format json out")
    baseline = read_baseline(file)
    from vbench.core.files import check_writable, write_atomically

    for name, path in (("--junit", junit), ("--summary", summary)):
        if path is not None and path.is_dir():
            raise BadInput(f"{name} {path} is a folder; name a file")
        if path is not None:
            check_writable(path.parent)
    from vbench.gate.compare import check_against, seeds_for
    from vbench.gate.report import render, to_json, to_junit
    from vbench.gate.report import summary as summary_of

    chosen = seeds_for(baseline, seeds, first_seed)
    floors = None
    if victim is not None or minimum or tolerance is not None:
        from vbench.gate.floors import floors_of, judge, model_baseline, needed

        if update:
            raise BadInput("--update is for the baseline's own model; for another, vbench baseline makes one")
        baseline = model_baseline(baseline, victim, weights is not None)
        floors = floors_of(baseline, minimum or (), tolerance, len(chosen))
        baseline = needed(baseline, floors)
    _refuse_code(baseline, allow_code, victim)
    if weights is not None:
        # Refused here, before a synthetic set is written.
        from vbench.victims.formats import first_bytes

        first_bytes(weights)
    if update and len(chosen) < len(baseline.seeds):
        raise BadInput(
            f"--update with {len(chosen)} of {len(baseline.seeds)} seeds would widen every bound; "
            "leave out --seeds"
        )
    options = (root, weights, device, quiet, runs, allow_code)
    gate, takings = check_against(baseline, file.parent, chosen, *options)
    if floors is not None:
        gate = judge(baseline, takings, chosen, floors)
    if junit is not None:
        write_atomically(junit, to_junit(gate))
    if summary is not None:
        summary.parent.mkdir(parents=True, exist_ok=True)
        with summary.open("a", encoding="utf-8") as page:
            page.write(summary_of(gate))
    if not update:
        put(to_json(gate) if style == "json" else render(gate, every))
        raise typer.Exit(0 if gate.green else 1)

    from vbench.gate.compare import updated

    _rewrite(file, baseline, updated(baseline, takings, chosen))


def _rewrite(file: Path, old: Baseline, new: Baseline) -> None:
    from vbench.gate.baseline import write_baseline
    from vbench.gate.report import render_unguarded, render_update

    unguarded = new.unguarded(len(new.seeds))
    new = new.without(unguarded)
    if (old.subjects, old.seeds) == (new.subjects, new.seeds):
        put(f"{file} already holds exactly these results; left as it is")
        return
    write_baseline(file, new)
    put(render_update(old, new))
    put(f"rewrote {file}; review it like any change, with git diff")
    if unguarded:
        put(f"\n{render_unguarded(unguarded)}")
        raise typer.Exit(1)


def _refuse_code(baseline: Baseline, allowed: bool, own: str | None) -> None:
    """Refuse classes by path that a file names; ``own``: the victim that the user names."""
    from vbench.core.errors import BadInput
    from vbench.gate.compare import code_named

    named = [] if allowed else [text for text in code_named(baseline.request) if text != own]
    if named:
        raise BadInput(
            f"the baseline names code by path: {', '.join(named)}; running it runs that code. "
            "If it is yours, give --allow-code"
        )
