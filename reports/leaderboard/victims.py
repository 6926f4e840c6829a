"""A board by victim: what the worst attack of each kind of knowledge leaves of it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean as mean

from vbench.reports.leaderboard.boards import Board, Standing
from vbench.reports.leaderboard.cells import after, map_below, results_of, whose_victim
from vbench.reports.leaderboard.links import Links
from vbench.reports.page.table import Cell, Column, Group, Table

_WORST = "lowest Rank-1 after an attack with this knowledge"


def by_victim(board: Board, links: Links) -> Table:
    """A row a victim: clean, and what the worst attack of each kind of knowledge leaves."""
    kinds = board.knowledge()
    columns = [
        Column("Victim"),
        Column("Clean", True, "Rank-1 before any attack; mAP below"),
        *(Column(f"Worst: {kind}", True, _WORST) for kind in kinds),
        Column("Attacks", True, "how many attacks it was shown"),
    ]
    rows = []
    for same in board.victims().values():
        worst = [_worst([one for one in same if one.knowledge == kind]) for kind in kinds]
        cells = [_victim(same, links), clean(same), *worst, Cell(str(len(same)), len(same))]
        rows.append(Group(same[0].row.victim, cells))
    legend = (
        "Rank-1 in percent, below it mAP and the attack; mean over trials, and over seeds with their "
        "standard deviation."
    )
    return Table("victims", "By victim", columns, rows, legend=legend)


def _worst(same: Sequence[Standing]) -> Cell:
    if not same:
        return Cell("")
    lowest = min(same, key=lambda one: one.row.after["r1"])
    return after(lowest, "r1", f"{map_below(lowest)}, {lowest.attack}")


def _victim(same: Sequence[Standing], links: Links) -> Cell:
    first = same[0]
    facts, page = victim_facts(first), links.victim(first.record)
    return Cell(first.row.victim, small=facts, href=page, badges=whose_victim(same))


def victim_facts(standing: Standing) -> str:
    """Weights and input size: what tells two victims of one name apart."""
    card = standing.record.config["victim"]
    size = card["options"].get("input_size")
    shape = f", {size[0]}x{size[1]}" if isinstance(size, list) and len(size) == 2 else ""
    return f"weights {card['weights'][:8]}{shape}"


def clean(same: Sequence[Standing]) -> Cell:
    """Clean figures; where records differ by more than rounding, the range."""
    found = [result.record for one in same for result in results_of(one)]
    values = [100 * record.mean("clean", "r1") for record in found]
    precision = 100 * mean(record.mean("clean", "map") for record in found)
    if any(one.doubted for one in same) and max(values) - min(values) >= 0.05:
        return Cell(f"{min(values):.1f} to {max(values):.1f}", mean(values), f"mAP {precision:.1f}")
    return Cell(f"{mean(values):.1f}", mean(values), f"mAP {precision:.1f}")
