"""The pages of a leaderboard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vbench.records.store import to_archive
from vbench.reports.frame import flat, to_csv
from vbench.reports.leaderboard.boards import Board, Standing
from vbench.reports.leaderboard.collect import Entry, Refused
from vbench.reports.leaderboard.tables import (
    CHECKED,
    CSV,
    DISPUTED,
    DOUBTED,
    INDEX,
    JSONL,
    REFUSED,
    Links,
    badge,
    by_attack,
    by_victim,
    each,
    everywhere,
    runs,
)
from vbench.reports.page.document import document
from vbench.reports.table import Cell, Column, Group, Table, facets
from vbench.reports.verify import Mark


def as_csv(entries: Sequence[Entry]) -> str:
    """One row per result, unrounded, in [0, 1], with its sources and what was checked."""
    rows = []
    for entry in entries:
        for result in entry.results:
            record = result.record
            versions = record.environment.get("versions")
            more = {
                "fingerprint": record.config["dataset"]["fingerprint"],
                "checks": "; ".join(mark.value for mark in result.marks) or "checked",
                "doubts": "; ".join(result.doubts),
                "outcomes": len(entry.results),
                "sources": "; ".join(result.sources),
                "created": record.created,
                "vbench": versions.get("vbench", "") if isinstance(versions, Mapping) else "",
                "device": str(record.environment.get("device_name", "")),
            }
            # Members would be columns, which many batteries would make far too many.
            line = flat([record.model_copy(update={"members": []})])[0]
            rows.append({**line, **more})
    return to_csv(rows)


def as_archive(entries: Iterable[Entry]) -> str:
    """The records, one per line, without per-query values."""
    return to_archive(result.record for entry in entries for result in entry.results)


_BADGES = (CHECKED, *(badge(mark) for mark in Mark), DISPUTED, DOUBTED)

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
            f"{_many(self.read, 'record')} read, {len(self.refused)} refused; "
            f"{_many(self.configurations, 'configuration')} with {_many(self.results, 'result')} on "
            f"{_many(self.boards, 'board')}, {_many(len(self.doubts), 'contradiction')}"
        )


def pages(made: Sequence[Board], entries: Sequence[Entry], summary: Summary, title: str) -> dict[str, str]:
    """Every file of the site by its name."""
    links = Links()
    site = {"site": title, "index": INDEX, "refused": REFUSED, "csv": CSV, "jsonl": JSONL}
    found = {
        INDEX: _page(
            "leaderboard_index.html.j2",
            **site,
            summary=summary,
            tables=_index(made, links),
            badges=_BADGES,
            victims=_names(made, links, "victim"),
            attacks=_names(made, links, "attack"),
        ),
        REFUSED: _page("leaderboard_refused.html.j2", **site, summary=summary),
    }
    for board in made:
        tables = [by_victim(board, links), by_attack(board, links), each(board, links)]
        here = {**site, "board": board, "other": links.runs(board), "here": links.board(board)}
        found[links.board(board)] = _page("leaderboard_board.html.j2", **here, tables=tables)
        every = [runs(board, links)]
        found[links.runs(board)] = _page("leaderboard_runs.html.j2", **here, **_filtered(every))
    for name, heading, tables in _subjects(made, links):
        found[name] = _page("leaderboard_subject.html.j2", **site, heading=heading, **_filtered(tables))
    return {**found, CSV: as_csv(entries), JSONL: as_archive(entries)}


def _page(template: str, **values: Any) -> str:
    return document(template, styles=("leaderboard.css",), **values)


def _filtered(tables: Sequence[Table]) -> dict[str, object]:
    total = sum(len(table.groups) for table in tables)
    return {"tables": tables, "facets": facets(tables, _FACETS), "total": total}


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
    for synthetic, caption in ((False, "Real data"), (True, "Drawn data")):
        rows = [_board_row(board, links) for board in made if board.setting.synthetic is synthetic]
        if rows:
            badges = ["SYNTHETIC"] if synthetic else []
            anchor = "synthetic" if synthetic else "real"
            tables.append(Table(anchor, caption, columns, rows, badges=badges))
    return tables


def _board_row(board: Board, links: Links) -> Group:
    results = [result for entry in board.entries for result in entry.results]
    checked = sum(Mark.TOTALS_ONLY not in result.marks for result in results)
    where = board.setting
    small = f"{_many(where.trials, 'trial')}, data {where.fingerprint[:8]}"
    return Group(
        board.title,
        [
            Cell(where.protocol, small=small, href=links.board(board)),
            Cell(where.threat),
            Cell(board.level),
            *(Cell(str(n), n) for n in (len(board.victims()), len(board.attacks()), len(results), checked)),
            Cell(max(result.record.created for result in results)[:10]),
        ],
    )


def _names(made: Sequence[Board], links: Links, kind: str) -> list[tuple[str, str]]:
    """Name and page of every victim, or of every attack, by name."""
    found = {}
    for board in made:
        for standing in board.standings:
            record = standing.record
            found[record.config[kind]["name"]] = getattr(links, kind)(record)
    return sorted(found.items())


def _subjects(made: Sequence[Board], links: Links) -> list[tuple[str, str, list[Table]]]:
    """Page, heading and tables of every victim and every attack; synthetic data in separate tables."""
    found: dict[tuple[str, str], dict[bool, list[tuple[Board, Standing]]]] = {}
    pages_of = {}
    for board in made:
        for standing in board.standings:
            for kind in ("victim", "attack"):
                name = standing.record.config[kind]["name"]
                pages_of[kind, name] = getattr(links, kind)(standing.record)
                by_kind = found.setdefault((kind, name), {})
                by_kind.setdefault(board.setting.synthetic, []).append((board, standing))
    subjects = []
    for (kind, name), by_kind in found.items():
        tables = [
            everywhere(
                by_kind[synthetic],
                "synthetic" if synthetic else "real",
                "Drawn data" if synthetic else "Real data",
                links,
                ["SYNTHETIC"] if synthetic else [],
            )
            for synthetic in (False, True)
            if synthetic in by_kind
        ]
        subjects.append((pages_of[kind, name], f"{kind.capitalize()} {name}", tables))
    return subjects


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"
