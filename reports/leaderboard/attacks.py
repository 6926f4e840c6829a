"""A board by attack: what each does on average, and its place among those that can be compared."""

from __future__ import annotations

from statistics import fmean as mean

from vbench.reports.leaderboard.boards import Board, Standing, same_victims
from vbench.reports.leaderboard.cells import cautions, number
from vbench.reports.leaderboard.links import Links
from vbench.reports.page.table import Cell, Column, Group, Table


def by_attack(board: Board, links: Links) -> Table:
    """A row an attack: means over the victims it was run on, and its place among attacks on the same ones."""
    total = len(board.victims())
    columns = [
        Column("Attack"),
        Column("Knowledge"),
        Column("Victims", True, "how many of the victims here it was run on"),
        Column(
            "Place", True, "by mean Rank-1 drop, among attacks of equal knowledge on exactly the same victims"
        ),
        Column("Rank-1 drop", True, "points, mean over its victims"),
        Column("mAP drop", True, "points, mean over its victims"),
        Column("ASR", True, "share of correct first matches lost, percent, mean over its victims"),
        Column("Largest drop", True, "of Rank-1, and on which victim"),
        Column("Smallest drop", True, "of Rank-1, and on which victim"),
        Column("Gradients"),
    ]
    found = board.attacks()
    places = _places(found)
    rows = []
    order = sorted(found, key=lambda key: (board.knowledge().index(key[0]), -len(found[key]), places[key][0]))
    for key in order:
        same, (place, rivals) = found[key], places[key]
        drops = sorted((_drop(one, "r1"), one.row.victim) for one in same)
        rates = [one.row.asr for one in same if one.row.asr is not None]
        rows.append(
            Group(
                same[0].attack,
                [
                    Cell(same[0].attack, href=links.attack(same[0].record), badges=cautions(same)),
                    Cell(key[0]),
                    Cell(f"{len(same)} of {total}", len(same)),
                    Cell(f"{place} of {rivals}" if rivals > 1 else "", place if rivals > 1 else None),
                    number(mean(drop for drop, _ in drops)),
                    number(mean(_drop(one, "map") for one in same)),
                    number(mean(rates) if rates else None),
                    number(drops[-1][0], drops[-1][1]),
                    number(drops[0][0], drops[0][1]),
                    Cell(same[0].row.evaluations),
                ],
                facets={"knowledge": key[0]},
            )
        )
    note = (
        "Means are over the victims an attack was run on, and those differ: compare by place, which does not."
    )
    differ = len({same_victims(same) for same in found.values()}) > 1
    return Table("attacks", "By attack", columns, rows, notes=[note] if differ else [])


def _places(found: dict[tuple[str, str], list[Standing]]) -> dict[tuple[str, str], tuple[int, int]]:
    """Place and number of rivals of each attack, among equal knowledge and the same victims.

    Equal at one decimal is the same place. Of disputed outcomes the one worst for the attack counts.
    """
    groups: dict[tuple[object, ...], list[tuple[str, str]]] = {}
    for key, same in found.items():
        groups.setdefault((key[0], same_victims(same)), []).append(key)
    places = {}
    for rivals in groups.values():
        drops = {key: round(mean(_drop(one, "r1") for one in found[key]), 1) for key in rivals}
        for key in rivals:
            places[key] = (1 + sum(other > drops[key] for other in drops.values()), len(rivals))
    return places


def _drop(standing: Standing, metric: str) -> float:
    return standing.row.before[metric] - standing.row.after[metric]
