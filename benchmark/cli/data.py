"""``vbench data``: check a copy of a data set, write a synthetic one, list protocols."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vbench.cli.output import put
from vbench.size import parse_size

if TYPE_CHECKING:
    from vbench.data.verify import Report

app = typer.Typer(no_args_is_help=True, help="Check data sets, write synthetic ones, list protocols.")


@app.command()
def verify(
    layout: Annotated[str, typer.Argument(help="sysu, regdb or llcm.")],
    root: Annotated[Path, typer.Option(help="Folder of the data set, as its owner ships it.")],
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Count and decode every image; exit with 1 if anything is missing, unreadable or not as published."""
    from vbench.data.verify import verify as check

    report = check(layout, root, quiet=quiet)
    for line in _lines(report):
        put(line)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def synth(
    layout: Annotated[str, typer.Option(help="sysu, regdb or llcm.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it must be new, empty, or this very set.")],
    ids: Annotated[int, typer.Option(help="Training identities.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    size: Annotated[str, typer.Option(help="Height x width in pixels, as in 64x32.")] = "64x32",
    test_ids: Annotated[int | None, typer.Option(help="Test identities.", show_default="chosen")] = None,
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Write a synthetic data set in the folder layout of a real one."""
    from vbench.data.protocols import check_layout
    from vbench.data.synthetic import write_dataset

    check_layout(layout)
    folder = write_dataset(layout, out, ids, seed, parse_size(size), test_ids=test_ids, quiet=quiet)
    put(f"synthetic {layout} data in {folder}")


@app.command()
def protocols(
    layout: Annotated[
        str | None, typer.Argument(help="sysu, regdb or llcm; all of them if left out.")
    ] = None,
) -> None:
    """List protocol ids; * marks a layout's default, ! one that only this project defines."""
    from vbench.data.protocols import LAYOUTS, all_protocols, default_protocol, parse_protocol

    defaults = {default_protocol(name) for name in LAYOUTS}
    for text in all_protocols(layout):
        mark = " *" if text in defaults else "" if parse_protocol(text).standard else " !"
        put(f"{text}{mark}")


def _lines(report: Report) -> list[str]:
    kind = (
        "synthetic, not compared with published counts"
        if report.synthetic
        else "compared with published counts"
    )
    lines = [f"{report.layout} in {report.root} ({kind})"]
    for count in report.counts:
        known = (
            "" if count.known is None else "  as published" if count.agrees else f"  published: {count.known}"
        )
        lines.append(f"  {count.name}: {count.found}{known}")
    by_split: dict[str, list[str]] = {}
    for (split, where), number in report.cameras.items():
        by_split.setdefault(split, []).append(f"{where} {number}")
    lines += [f"  {split}: {', '.join(parts)}" for split, parts in by_split.items()]
    lines += [f"note: {note}" for note in report.notes]
    lines += [f"PROBLEM: {problem}" for problem in report.problems]
    lines.append("no problem found" if report.ok else f"{len(report.problems)} problems")
    return lines
