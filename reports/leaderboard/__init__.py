"""Makes a static site from folders of records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vbench.core import __version__
from vbench.core.errors import BadInput
from vbench.core.text import count_of
from vbench.records.store import to_archive
from vbench.reports.frame import flat, to_csv
from vbench.reports.leaderboard.collect import Entry, Refused, collect, disputed, find_doubts, merge
from vbench.reports.leaderboard.names import check_place, publish
from vbench.reports.leaderboard.tables import (
    CHECKED,
    DISPUTED,
    DOUBTED,
    MARKS,
    Board,
    Links,
    Standing,
    boards,
    by_attack,
    by_victim,
    each,
    everywhere,
    of_kind,
    ranked,
    runs,
)
from vbench.reports.page.document import document
from vbench.reports.printed import protocol_words
from vbench.reports.select import select
from vbench.reports.table import Cell, Column, Group, Table, facets
from vbench.reports.verify import Mark

TITLE = "vbench leaderboard"


def leaderboard(
    roots: Sequence[Path],
    out: Path,
    where: str | None = None,
    title: str = TITLE,
    strict: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Summary:
    """Verify and merge the records of some folders and write the site to ``out``.

    ``where`` selects records as ``vbench report --where`` does. ``tell`` is called with a line for each
    refusal. With ``strict`` nothing is written if any record is refused. Raises :class:`BadInput` for a
    folder that does not exist, an unsuitable ``out``, and if no record is accepted.
    """
    check_place(out)
    collected = collect(roots)
    for refused in collected.refused:
        tell(f"refused {refused.source}: {'; '.join(refused.reasons)}")
    if not collected.found:
        raise BadInput(f"no run record that verifies in {', '.join(map(str, roots))}")
    entries = merge(collected.found)
    find_doubts(entries)
    if where is not None:
        kept = {record.id for record in select([entry.record for entry in entries], where)}
        entries = [entry for entry in entries if entry.record.id in kept]
    doubts = [doubt for entry in entries for result in entry.results for doubt in result.doubts]
    made = boards(entries)
    summary = Summary(
        read=len(collected.found) + len(collected.refused),
        results=sum(len(entry.results) for entry in entries),
        configurations=len(entries),
        boards=len(made),
        refused=collected.refused,
        doubts=[*dict.fromkeys(doubts), *disputed(entries)],
    )
    if not (strict and collected.refused):
        facts = {"vbench": __version__, "title": title, "results": summary.results}
        publish(out, pages(made, entries, summary, title), facts)
    return summary


def as_csv(entries: Sequence[Entry]) -> str:
    """One row per result, unrounded, in [0, 1], with its sources and what was checked."""
    rows = []
    for entry in entries:
        for result in entry.results:
            record = result.record
            # Members would be columns, which many batteries would make far too many.
            (line,) = flat([record.model_copy(update={"members": []})])
            more = {
                "fingerprint": record.config["dataset"]["fingerprint"],
                "checks": "; ".join(mark.value for mark in result.marks) or "checked",
                "doubts": "; ".join(result.doubts),
                "outcomes": len(entry.results),
                "sources": "; ".join(result.sources),
                "created": record.created,
                "vbench": result.version,
                "device": str(record.environment.get("device_name", "")),
            }
            rows.append(line | more)
    return to_csv(rows)


_SITE = {
    "index": "index.html",
    "refused": "refused.html",
    "csv": "records.csv",
    "jsonl": "records.jsonl",
}

_FACETS = {
    "board": "Board",
    "victim": "Victim",
    "attack": "Attack",
    "knowledge": "Knowledge",
    "checks": "Checks",
}


@dataclass(frozen=True)
class Summary:
    """Numbers of submitted records, results, refusals and contradictions."""

    read: int
    results: int
    configurations: int
    boards: int
    refused: Sequence[Refused]
    doubts: Sequence[str]

    @property
    def line(self) -> str:
        """The summary in one line."""
        return (
            f"{count_of(self.read, 'record')} read, {len(self.refused)} refused; "
            f"{count_of(self.configurations, 'configuration')} with {count_of(self.results, 'result')} on "
            f"{count_of(self.boards, 'board')}, {count_of(len(self.doubts), 'contradiction')}"
        )


def pages(made: Sequence[Board], entries: Sequence[Entry], summary: Summary, title: str) -> dict[str, str]:
    """Every file of the site by its name."""
    links = Links()
    found = {}

    def add(name: str, template: str, tables: Sequence[Table] = (), **values: Any) -> None:
        total = sum(len(table.groups) for table in tables)
        filters = {"facets": facets(tables, _FACETS), "total": total}
        values |= {**_SITE, **filters, "site": title, "summary": summary, "tables": tables}
        found[name] = document(f"leaderboard_{template}.html.j2", styles=("leaderboard.css",), **values)

    # Board, kind and name of the subject -> whether synthetic -> standings, in the order of the boards.
    subjects: dict[tuple[str, str], dict[bool, list[tuple[Board, Standing]]]] = {}
    for board in made:
        for standing in board.standings:
            for kind in ("victim", "attack"):
                key = kind, standing.record.config[kind]["name"]
                same = subjects.setdefault(key, {}).setdefault(board.setting.synthetic, [])
                same.append((board, standing))
    names = {
        f"{kind}s": sorted((name, links.page(kind, name)) for of, name in subjects if of == kind)
        for kind in ("victim", "attack")
    }
    badges = (CHECKED, *MARKS.values(), DISPUTED, DOUBTED)
    # The largest board, of real data if there are some, opens the site.
    first = min(made, key=lambda one: (one.setting.synthetic, -len(one.victims()), -len(one.results)))
    best, bars = ranked(first, links)
    values = {"best": best, "bars": bars, "page": links.page("board", first.key)}
    add(_SITE["index"], "index", _index(made, links), badges=badges, **values, **names)
    add(_SITE["refused"], "refused")
    for board in made:
        here = {kind: links.page(kind, board.key) for kind in ("board", "runs")}
        values = {"board": board, "here": here["board"], "other": here["runs"]}
        best, bars = ranked(board, links)
        tables = [
            replace(best, caption="By bound", badges=()),
            *(make(board, links) for make in (by_victim, by_attack, each)),
        ]
        add(here["board"], "board", tables, bars=bars, **values)
        add(here["runs"], "runs", [runs(board, links)], **values)
    for (kind, name), kinds in subjects.items():
        tables = [
            everywhere(kinds[synthetic], synthetic, links)
            for synthetic in (False, True)
            if synthetic in kinds
        ]
        add(links.page(kind, name), "subject", tables, heading=f"{kind.capitalize()} {name}")
    archive = to_archive(result.record for entry in entries for result in entry.results)
    return {**found, _SITE["csv"]: as_csv(entries), _SITE["jsonl"]: archive}


def _index(made: Sequence[Board], links: Links) -> list[Table]:
    columns = [
        Column("Protocol"),
        Column("Budget"),
        Column("Level"),
        Column("Victims", True),
        Column("Attacks", True),
        Column("Results", True, "results of runs"),
        Column("Checked", True, "results whose metrics were recomputed from per-query values"),
        Column("Newest", hint="date of the newest record, as stated"),
    ]
    tables = []
    for synthetic in (False, True):
        rows = [_board_row(board, links) for board in made if board.setting.synthetic is synthetic]
        if rows:
            tables.append(of_kind(synthetic, columns, rows))
    return tables


def _board_row(board: Board, links: Links) -> Group:
    results = board.results
    checked = sum(Mark.TOTALS_ONLY not in result.marks for result in results)
    where = board.setting
    small = count_of(where.trials, "trial") + board.variant
    return Group(
        board.title,
        [
            Cell(protocol_words(where.protocol), small=small, href=links.page("board", board.key)),
            Cell(where.threat),
            Cell(board.level),
            *(Cell(str(n), n) for n in (len(board.victims()), len(board.attacks()), len(results), checked)),
            Cell(max(result.record.created for result in results)[:10]),
        ],
    )
