"""Tables with a row a run, and a row a standing: where every figure comes from."""

from __future__ import annotations

from collections.abc import Sequence

from vbench.reports.leaderboard.boards import Board, Standing
from vbench.reports.leaderboard.cells import DISPUTED, after, badges_of, number, results_of
from vbench.reports.leaderboard.links import Links
from vbench.reports.leaderboard.merge import Entry, Result
from vbench.reports.leaderboard.victims import victim_facts
from vbench.reports.page.table import Cell, Column, Group, Table

_MOST_SOURCES = 5
_CHANGE = "before → after, percent, mean over trials; sorts by after"
_ASR = "share of the queries with a correct first match that lose it, percent"


def runs(board: Board, links: Links) -> Table:
    """Every outcome of every configuration of a board, with its provenance."""
    columns = [
        Column("Victim"),
        Column("Attack"),
        Column("Knowledge"),
        Column("Seed", True),
        Column("Rank-1", True, _CHANGE),
        Column("mAP", True, _CHANGE),
        Column("ASR", True, _ASR),
        Column("Checks"),
        Column("Record", hint="id, and the files that hold it, below the folders that were handed in"),
        Column("Made", hint="date, vbench version and device, as stated"),
    ]
    rows = [
        _run(standing, entry, result, links)
        for standing in sorted(board.standings, key=lambda one: (one.victim, one.knowledge, one.attack))
        for entry in standing.entries
        for result in entry.results
    ]
    return Table("runs", "Runs", columns, rows)


def _run(standing: Standing, entry: Entry, result: Result, links: Links) -> Group:
    record = result.record
    badges = badges_of([result]) + (() if entry.agrees else (DISPUTED,))
    shown, more = result.sources[:_MOST_SOURCES], len(result.sources) - _MOST_SOURCES
    sources = "; ".join(shown) + (f" and {more} more" if more > 0 else "")
    return Group(
        record.id,
        [
            Cell(standing.row.victim, small=victim_facts(standing), href=links.victim(record)),
            Cell(standing.attack, href=links.attack(record)),
            Cell(standing.knowledge),
            Cell(str(record.config["seed"]), record.config["seed"]),
            *(_change(record.mean("clean", m), record.mean("adversarial", m)) for m in ("r1", "map")),
            number(None if record.asr is None else 100 * record.asr),
            Cell("", badges=badges),
            Cell(record.id, small=sources),
            Cell(record.created[:10], small=made_with(result)),
        ],
        facets={
            "victim": standing.row.victim,
            "attack": record.config["attack"]["name"],
            "knowledge": standing.knowledge,
            "checks": badges[0].text if badges else "",
        },
    )


def _change(before: float, after: float) -> Cell:
    return Cell(f"{100 * after:.1f}", after, lead=f"{100 * before:.1f} → ")


def made_with(result: Result) -> str:
    """Version and device as the record states them; nobody can check that."""
    environment = result.record.environment
    versions = environment.get("versions")
    version = versions.get("vbench", "") if isinstance(versions, dict) else ""
    device = environment.get("device_name") or environment.get("device") or ""
    return ", ".join(str(part)[:60] for part in (f"vbench {version}" if version else "", device) if part)


def everywhere(
    found: Sequence[tuple[Board, Standing]], anchor: str, caption: str, links: Links, badges: Sequence[str]
) -> Table:
    """Standings of several boards side by side, for the page of a victim or of an attack."""
    columns = [
        Column("Board"),
        Column("Victim"),
        Column("Attack"),
        Column("Knowledge"),
        Column("Rank-1", True, _CHANGE),
        Column("mAP", True, _CHANGE),
        Column("ASR", True, _ASR),
        Column("Seeds", True),
        Column("Checks"),
    ]
    rows = []
    for board, standing in found:
        row = standing.row
        cells = [
            Cell(board.title, small=f"data {board.setting.fingerprint[:8]}", href=links.board(board)),
            Cell(row.victim, small=victim_facts(standing), href=links.victim(standing.record)),
            Cell(standing.attack, href=links.attack(standing.record)),
            Cell(standing.knowledge),
            *(after(standing, m, lead=f"{row.before[m]:.1f} → ") for m in ("r1", "map")),
            number(row.asr),
            Cell(str(len(standing.entries)), len(standing.entries)),
            Cell("", badges=badges_of(results_of(standing))),
        ]
        facets = {"board": board.title, "victim": row.victim, "knowledge": standing.knowledge}
        rows.append(Group(f"{standing.attack} on {row.victim}", cells, facets=facets))
    return Table(anchor, caption, columns, rows, badges=badges)
