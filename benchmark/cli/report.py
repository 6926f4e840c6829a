"""The commands report, figure and leaderboard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vbench.cli.options import Chance, Wide
from vbench.cli.output import put

if TYPE_CHECKING:
    from vbench.records.store import Contents

#: Format of a report -> how its file ends.
_ENDINGS = {
    "plain": ".txt",
    "markdown": ".md",
    "html": ".html",
    "csv": ".csv",
    "json": ".json",
    "latex": ".tex",
    "jsonl": ".jsonl",
}


def report(
    given: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="plain, markdown, html, csv, json, latex, or jsonl: an archive.",
            show_default="as --out ends, else plain",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File: .txt, .md, .html, .csv, .json, .tex or .jsonl; - is the terminal.",
            show_default="-; html: report.html",
        ),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of run records, or an archive.")] = Path("runs"),
    where: Annotated[
        str | None,
        typer.Option(help='Only these records: "victim=agw eps=8/255"; repeat a key for more values.'),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="r1, r5, r10, r20, map, minp, asr; separate by commas.", show_default="r1,r10,map,minp,asr"
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(help="One table per victim, attack or dataset.", show_default="protocol and budget"),
    ] = None,
    versus: Annotated[
        str | None, typer.Option(help="An attack; adds the p-value of each row against it, paired by query.")
    ] = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="LaTeX with every column, instead of a table for one column of a paper."),
    ] = False,
    label: Annotated[
        list[str] | None, typer.Option(help="LaTeX: print this name, as in uap='Our UAP'; repeatable.")
    ] = None,
    compare: Annotated[
        str | None, typer.Option(help="Attacks x victims table of one metric: r1, r10, map, minp ...")
    ] = None,
    figures: Annotated[bool, typer.Option(help="Figures on the html page.")] = True,
    images: Annotated[
        bool,
        typer.Option(
            "--images", help="Stored images of queries on the html page; mind the licence of the data set."
        ),
    ] = False,
    published: Annotated[bool, typer.Option("--published", help="Published results only.")] = False,
    chance: Chance = False,
    wide: Wide = False,
) -> None:
    """Tables or a page of stored runs: a short table, or with --wide or another format all columns.

    These are before, after, drop, best in bold, knowledge, budget, cost and published values.
    """
    from vbench.core.errors import BadInput
    from vbench.core.files import check_writable
    from vbench.reports.select import pick_metrics, select

    style = _format_of(None if str(out) == "-" else out, given, _ENDINGS, "plain")
    target = out or Path("report.html" if style == "html" else "-")
    if str(target) != "-":
        check_writable(target.parent)
    picked = None if metrics is None else pick_metrics(metrics)
    for one, other in ((compare, metrics), (compare, group), (compare, versus)):
        if one is not None and other:
            raise BadInput("--compare does not go with --metrics, --group or --versus; leave them out")
    if images and (style != "html" or compare is not None):
        raise BadInput("--images needs --format html, and does not go with --compare")
    paper = style == "latex" and not full and compare is None and not published
    if (full and (style != "latex" or compare is not None or published)) or (label and not paper):
        raise BadInput(
            "--full and --label are for --format latex, one of them, without --compare or --published"
        )
    if compare is not None and style == "jsonl":
        raise BadInput("--format jsonl is an archive of records; leave --compare out")
    if published:
        if compare is not None or group or versus or images or chance or style == "jsonl":
            raise BadInput("--published goes only with --format, --metrics, --where and --out")
        from vbench.reports.published import printed_report
        from vbench.reports.published import published as all_published
        from vbench.reports.select import select_published

        found = all_published() if where is None else select_published(all_published(), where)
        _write(_document(printed_report(found, style, picked), style), target)
        return
    contents = read_contents(runs)
    records = contents.records if where is None else select(contents.records, where)
    if style == "jsonl":
        from vbench.records.store import to_archive

        text = to_archive(records)
    elif compare is not None:
        from vbench.reports.compare import comparison

        text = _document(comparison(records, compare, style, chance), style)
    elif style == "html":
        from vbench.reports.page import page_of

        # The page may be sent to others, so it shows file names without their folders.
        broken = [f"{path.name}: {reason}" for path, reason in contents.broken]
        text = page_of(records, picked, group, versus, broken, figures, runs, images, chance)
    elif paper:
        from vbench.reports.narrow import narrow
        from vbench.reports.printed import read_labels
        from vbench.reports.table import write

        text = write(narrow(records, picked, group, versus, read_labels(label or ()), chance), style)
    else:
        from vbench.reports.tables import report as short_report
        from vbench.reports.tables import report_of

        if style == "plain" and not wide:
            text = short_report(records, style, (), picked, group, versus, chance)
        else:
            text = report_of(records, style, picked, group, versus, chance)
    _write(text, target)


def _document(text: str, style: str) -> str:
    """The tables of an html report as a whole page; any other text as it is."""
    from vbench.reports.table import html_page

    return html_page("vbench report", text) if style == "html" else text


def _write(text: str, target: Path) -> None:
    """Write to this file, or for ``-`` to the terminal."""
    from vbench.core.files import write_atomically
    from vbench.core.progress import say

    ended = text if text.endswith("\n") else f"{text}\n"
    if str(target) == "-":
        put(ended, nl=False)
        return
    write_atomically(target, ended)
    say(f"{target}: {len(ended.encode()) / 1000:,.0f} kB")


def read_contents(runs: Path) -> Contents:
    """The readable records and the unreadable files of a folder or an archive."""
    from vbench.core.errors import BadInput
    from vbench.core.progress import say
    from vbench.records.store import RunStore

    if not runs.exists():
        raise BadInput(f"no folder of runs at {runs}; make one with vbench run, or give --runs")
    contents = RunStore(runs).read_all()
    for note in contents.notes:
        say(note)
    if not contents.records:
        raise BadInput(f"no readable run record in {runs}")
    return contents


def figure(
    name: Annotated[str, typer.Argument(help="Figure; vbench list figures shows them.")],
    run: Annotated[
        list[str] | None, typer.Option(help="Id of a run, or its beginning; repeatable.", show_default="all")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help='Only these records: "victim=agw eps=8/255", as in vbench report.')
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of run records, or an archive.")] = Path("runs"),
    out: Annotated[
        Path | None, typer.Option(help="File: .png, .svg or .pdf.", show_default="NAME.png here")
    ] = None,
    style: Annotated[
        str | None, typer.Option("--format", help="png, svg or pdf.", show_default="as --out ends")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="r1, r5, r10, r20, map or minp.", show_default="r1")
    ] = None,
    width: Annotated[
        str | None, typer.Option(help="column (3.4 in) or full (7 in).", show_default="the figure's own")
    ] = None,
    query: Annotated[
        int | None, typer.Option(help="Number of a stored query.", show_default="some that lose most")
    ] = None,
    title: Annotated[
        bool, typer.Option("--title", help="Draw the title, which else is printed, for the caption.")
    ] = False,
    label: Annotated[
        list[str] | None, typer.Option(help="Draw this name, as in uap='Our UAP'; repeatable.")
    ] = None,
) -> None:
    """Draw one figure from records, and from the files that vbench run --keep stored next to them."""
    from vbench.core.files import check_writable, write_atomically
    from vbench.core.progress import say
    from vbench.reports.figures import draw, find
    from vbench.reports.figures.panels import by_id
    from vbench.reports.printed import read_labels
    from vbench.reports.select import select

    find(name)
    ending = _format_of(out, style, {one: f".{one}" for one in ("png", "svg", "pdf")}, "png")
    path = out or Path(f"{name}.{ending}")
    check_writable(path.parent)
    records = read_contents(runs).records
    if run:
        records = by_id(records, run)
    if where is not None:
        records = select(records, where)
    drawn = draw(name, records, runs, metric, width, query, title, read_labels(label or ()))

    from vbench.reports.figures.style import encode, title_of

    write_atomically(path, encode(drawn, ending))
    if not title:
        say(f"caption: {'; '.join(filter(None, title_of(drawn)))}")
    put(path)


def _format_of(out: Path | None, style: str | None, endings: Mapping[str, str], usual: str) -> str:
    """The format given, else as ``out`` ends, else ``usual``; ``endings``: format -> ending.

    Raises BadInput for an unknown format or ending, and where the two do not agree.
    """
    from vbench.core.errors import BadInput, unknown_name

    if style is not None and style not in endings:
        raise unknown_name("format", style, endings)
    if out is None:
        return style or usual
    meant = {ending: name for name, ending in endings.items()}.get(out.suffix.lower())
    if style is None and meant is None:
        *first, last = endings.values()
        known = f"{', '.join(first)} or {last}"
        raise BadInput(f"--out {out} does not end in {known}; rename it, or give --format")
    if style is not None and meant not in (None, style):
        raise BadInput(f"--out {out} does not end in {endings[style]}; rename it, or leave out --format")
    return style or meant or usual


def leaderboard(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Folders of run records, or archives.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the site; an earlier site there is replaced.")],
    where: Annotated[
        str | None,
        typer.Option(help='Only these records: "victim=agw eps=8/255"; repeat a key for more values.'),
    ] = None,
    title: Annotated[str, typer.Option(help="Title of the site.")] = "vbench leaderboard",
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing and exit with 1 if any record is refused.")
    ] = False,
) -> None:
    """Verify and merge records of several authors; write a site that opens from disk or any web server.

    Prints why each refused record was refused. Exit code 2 if all are.
    """
    from vbench.core.files import check_writable
    from vbench.core.progress import say
    from vbench.reports.leaderboard import leaderboard as build

    check_writable(out)
    summary = build(folders, out, where, title, strict, tell=say)
    put(summary.line)
    if strict and summary.refused:
        say(f"nothing written: {len(summary.refused)} refused, and --strict was given")
        raise typer.Exit(1)
    put(f"site in {out}; open {out / 'index.html'}")
