"""The HTML page of a set of records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vbench.core import __version__
from vbench.records.record import Record
from vbench.reports.page.document import document
from vbench.reports.page.notes import cards, cautions, environments, glossary, warnings
from vbench.reports.page.queries import TOP, Album, Drawings, album, drawings, explorer
from vbench.reports.page.results import FILTERS, METRICS, counts, heading, result_tables, strongest
from vbench.reports.rows import RANDOM
from vbench.reports.table import facets
from vbench.reports.tables import sheets


def page_of(
    records: Sequence[Record],
    metrics: Sequence[str] | None = None,
    group: str | None = None,
    versus: str | None = None,
    broken: Sequence[str] = (),
    figures: bool = True,
    runs: Path | None = None,
    images: bool = False,
    chance: bool = False,
) -> str:
    """The page: summary, tables, figures, worst queries, threat models, warnings, environment and commands.

    One file that needs no network. ``metrics``, ``group``, ``versus`` and ``chance`` as in
    :func:`vbench.reports.tables.report_of`, with the same rules for sharing a table; ``broken``: files that
    could not be read, each with the reason. ``images``: show the images that runs kept under the folder
    ``runs``. Content of records is text on the page, never markup.

    Raises BadInput for an unknown group or attack to compare with.
    """
    wanted = METRICS if metrics is None else metrics
    found = sheets(records, wanted, group, versus, chance)
    entries = [entry for sheet in found for entry in sheet.entries if entry[1].attack != RANDOM]
    kept = album(records, runs) if images and runs is not None else Album()
    queries = explorer(records, kept.shown)
    readable = [record for record in records if record.id not in queries.broken]
    tables = result_tables(found, queries.names)
    threats = cards(entries)
    return document(
        "report.html.j2",
        styles=("report.css",),
        scripts=("explorer.js",),
        version=__version__,
        title=heading(records),
        synthetic=sum(record.synthetic for record in records),
        runs=len(records),
        counts=counts(records, entries),
        cautions=cautions(records, entries, [*broken, *kept.broken]),
        drawings=drawings(readable, runs, images) if figures else Drawings(),
        album=kept,
        strongest=strongest(entries),
        results=tables,
        facets=facets(tables, FILTERS),
        rows=sum(len(table.groups) for table in tables),
        explorer=queries,
        top=TOP,
        cards=threats,
        glossary=glossary(threats),
        warnings=warnings(entries),
        environments=environments(records),
    )
