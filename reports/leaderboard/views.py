"""The tables of one board: by victim, by attack, and every run on it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from vbench.reports.best import best
from vbench.reports.leaderboard.boards import Board, Standing, same_victims
from vbench.reports.leaderboard.cells import DISPUTED, DOUBTED, after, number, results_of
from vbench.reports.leaderboard.links import Links
from vbench.reports.page.table import Cell, Column, Group, Table

_EQUAL = "Strong: the lowest on this victim among attacks of equal knowledge, and what ties with it."


def by_victim(board: Board, links: Links) -> Table:
    """A row a victim: clean, the worst of each kind of knowledge, then every attack."""
    kinds, attacks = board.knowledge(), list(board.attacks())
    columns = [
        Column("Victim"),
        Column("Clean Rank-1", True, "before any attack; mAP below"),
        *(
            Column(f"Worst, {kind}", True, f"lowest Rank-1 after an attack with this knowledge: {kind}")
            for kind in kinds
        ),
        *(Column(name, True, f"Rank-1 after {name} ({kind}); mAP below") for kind, name in attacks),
    ]
    strong = _strong(board)
    rows = []
    for same in board.victims().values():
        there = {(one.knowledge, one.attack): one for one in same}
        cells = [_victim(same, links), _clean(same)]
        cells += [_worst([one for one in same if one.knowledge == kind]) for kind in kinds]
        for key in attacks:
            one = there.get(key)
            cells.append(after(one, "r1", _map(one), id(one) in strong) if one else Cell(""))
        rows.append(Group(cells))
    return Table(
        "victims",
        "By victim",
        columns,
        rows,
        legend="Rank-1 in percent, mAP below; mean over trials, and over seeds with their deviation.",
        notes=[_EQUAL] if strong else [],
    )


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
        badges = [DISPUTED] * any(not one.agrees for one in same) + [DOUBTED] * any(o.doubted for o in same)
        rows.append(
            Group(
                [
                    Cell(same[0].attack, href=links.attack(same[0].record), badges=badges),
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


def _strong(board: Board) -> set[int]:
    """Ids of the standings that are best on their victim; disputed ones do not compete."""
    compete = [one for one in board.standings if one.agrees]
    return {id(compete[index]) for index in best([(board.setting, one.row) for one in compete], "r1")}


def _worst(same: Sequence[Standing]) -> Cell:
    if not same:
        return Cell("")
    lowest = min(same, key=lambda one: one.row.after["r1"])
    return after(lowest, "r1", f"{_map(lowest)}, {lowest.attack}")


def _victim(same: Sequence[Standing], links: Links) -> Cell:
    first = same[0]
    badges = [DOUBTED] * any(one.doubted for one in same)
    return Cell(first.row.victim, small=victim_facts(first), href=links.victim(first.record), badges=badges)


def victim_facts(standing: Standing) -> str:
    """Weights and input size: what tells two victims of one name apart."""
    card = standing.record.config["victim"]
    size = card["options"].get("input_size")
    shape = f", {size[0]}x{size[1]}" if isinstance(size, list) and len(size) == 2 else ""
    return f"weights {card['weights'][:8]}{shape}"


def _clean(same: Sequence[Standing]) -> Cell:
    """Clean figures; where records differ by more than rounding, the range."""
    found = [result.record for one in same for result in results_of(one)]
    values = [100 * record.mean("clean", "r1") for record in found]
    precision = 100 * mean(record.mean("clean", "map") for record in found)
    if any(one.doubted for one in same) and max(values) - min(values) >= 0.05:
        return Cell(f"{min(values):.1f} to {max(values):.1f}", mean(values), f"mAP {precision:.1f}")
    return Cell(f"{mean(values):.1f}", mean(values), f"mAP {precision:.1f}")


def _map(standing: Standing) -> str:
    return f"mAP {standing.row.after['map']:.1f}"


def _drop(standing: Standing, metric: str) -> float:
    return standing.row.before[metric] - standing.row.after[metric]
