"""A board as a matrix: Rank-1 after each attack on each victim, the strongest in bold."""

from __future__ import annotations

from vbench.reports.best import best
from vbench.reports.leaderboard.boards import Board
from vbench.reports.leaderboard.cells import after, map_below, whose_attack
from vbench.reports.leaderboard.links import Links
from vbench.reports.leaderboard.victims import clean
from vbench.reports.page.table import Cell, Column, Group, Table

_BOLD = (
    "Bold: the lowest on the victim among attacks of equal knowledge, where there are two at least, and what "
    "ties with it: attacks whose drop interval holds the drop of the strongest."
)


def each(board: Board, links: Links) -> Table:
    """A row an attack, a column a victim: Rank-1 after each attack on each victim."""
    victims = board.victims()
    names = [same[0].row.victim for same in victims.values()]
    columns = [Column("Attack"), Column("Knowledge")]
    for (_, same), name in zip(victims.items(), names, strict=True):
        weights = same[0].record.config["victim"]["weights"][:8]
        title = f"{name} {weights}" if names.count(name) > 1 else name
        columns.append(
            Column(title, True, f"Rank-1 after the attack on {name}, weights {weights}; mAP below")
        )
    strong = _strong(board)
    rows = [
        Group(
            "before any attack", [Cell("before any attack"), Cell(""), *(clean(v) for v in victims.values())]
        )
    ]
    for (knowledge, attack), same in board.attacks().items():
        there = {one.victim: one for one in same}
        whose = whose_attack(same)
        cells = [Cell(attack, href=links.attack(same[0].record), badges=whose), Cell(knowledge)]
        for victim in victims:
            one = there.get(victim)
            cells.append(after(one, "r1", map_below(one), id(one) in strong) if one else Cell(""))
        rows.append(Group(attack, cells))
    legend = "Rank-1 in percent, mAP below it."
    return Table(
        "each", "Each attack on each victim", columns, rows, legend=legend, notes=[_BOLD] * bool(strong)
    )


def _strong(board: Board) -> set[int]:
    """Ids of the standings that are best on their victim; disputed ones do not compete."""
    compete = [one for one in board.standings if one.agrees]
    return {id(compete[index]) for index in best([(board.setting, one.row) for one in compete], "r1")}
