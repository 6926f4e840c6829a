"""How figures of a standing are written, the same in every table of the site."""

from __future__ import annotations

from collections.abc import Sequence

from vbench.reports.leaderboard.boards import Standing
from vbench.reports.leaderboard.merge import Result
from vbench.reports.page.table import Badge, Cell
from vbench.reports.verify import Mark

DISPUTED = Badge(
    "results differ",
    "Different outcomes of one configuration were handed in; shown is the range, sorted by the end that is "
    "worse for the attack, and it does not compete.",
    warn=True,
)
DOUBTED = Badge(
    "clean differs",
    "Another record says something else about the clean figures of this victim, or about the images; "
    "see the page of refusals and doubts.",
    warn=True,
)
CHECKED = Badge(
    "checked",
    "Every figure of Rank-k, mAP and ASR was worked out again from the values of single queries.",
)


def after(standing: Standing, metric: str, small: str = "", strong: bool = False, lead: str = "") -> Cell:
    """A metric after the attack: mean over seeds, spread, or the range where outcomes differ."""
    value = standing.row.after[metric]
    if not standing.agrees:
        low, high = standing.span(metric)
        return Cell(f"{low:.1f} to {high:.1f}", value, small, lead=lead, badges=(DISPUTED,))
    spread = f" ± {standing.row.spread[metric]:.1f}" if standing.row.spread else ""
    return Cell(f"{value:.1f}{spread}", value, small, strong, lead)


def map_below(standing: Standing) -> str:
    """mAP after the attack, as it stands below a Rank-1."""
    return f"mAP {standing.row.after['map']:.1f}"


def number(value: float | None, small: str = "") -> Cell:
    """A figure with one decimal; nothing for None."""
    # Adding zero turns -0.0 into 0.0.
    return Cell("" if value is None else f"{round(value, 1) + 0.0:.1f}", value, small)


def badge(mark: Mark) -> Badge:
    """The badge of a mark."""
    return Badge(mark.value, mark.meaning)


def badges_of(results: Sequence[Result]) -> tuple[Badge, ...]:
    """What verification says of results, each badge once."""
    marks = [mark for mark in Mark if any(mark in result.marks for result in results)]
    checked = () if Mark.TOTALS_ONLY in marks else (CHECKED,)
    doubted = (DOUBTED,) if any(result.doubts for result in results) else ()
    return (*checked, *(badge(mark) for mark in marks), *doubted)


def cautions(same: Sequence[Standing]) -> tuple[Badge, ...]:
    """What to know about some standings as a whole: all badges but that of an ordinary, checked result."""
    disputed = () if all(one.agrees for one in same) else (DISPUTED,)
    found = badges_of([result for one in same for result in results_of(one)])
    return (*disputed, *(one for one in found if one is not CHECKED))


def whose_attack(same: Sequence[Standing]) -> tuple[Badge, ...]:
    """The badge of an attack that is not ours, which may have the name of one that is, or nearly."""
    return _only(same, Mark.FOREIGN_ATTACK, Mark.LIBRARY_ATTACK)


def whose_victim(same: Sequence[Standing]) -> tuple[Badge, ...]:
    """The badges of a victim that is not ours, or whose clean figures are in doubt."""
    doubted = (DOUBTED,) if any(one.doubted for one in same) else ()
    return (*_only(same, Mark.FOREIGN_VICTIM), *doubted)


def _only(same: Sequence[Standing], *marks: Mark) -> tuple[Badge, ...]:
    there = {mark for one in same for result in results_of(one) for mark in result.marks}
    return tuple(badge(mark) for mark in marks if mark in there)


def results_of(standing: Standing) -> list[Result]:
    """Every outcome behind a standing."""
    return [result for entry in standing.entries for result in entry.results]
