"""Makes a static site from folders of records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vbench.core import __version__
from vbench.core.errors import BadInput
from vbench.reports.leaderboard.boards import boards
from vbench.reports.leaderboard.collect import Entry, collect, disputed, find_doubts, merge
from vbench.reports.leaderboard.names import check_place, publish
from vbench.reports.leaderboard.site import Summary, pages
from vbench.reports.select import select

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
        tell(f"refused {refused.line}")
    if not collected.found:
        raise BadInput(f"no run record that verifies in {', '.join(map(str, roots))}")
    entries = merge(collected.found)
    find_doubts(entries)
    if where is not None:
        entries = _kept(entries, where)
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


def _kept(entries: Sequence[Entry], where: str) -> list[Entry]:
    kept = {record.id for record in select([entry.record for entry in entries], where)}
    return [entry for entry in entries if entry.record.id in kept]
