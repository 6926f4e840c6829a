"""How a sweep went, in a few lines and a table of what failed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tabulate import tabulate

from vbench.sweep.tasks import Task

if TYPE_CHECKING:
    from vbench.sweep.conduct import Result

_REASON_WIDTH = 60


def summary(result: Result, runs: Path, only_prepared: bool = False) -> str:
    """What ``vbench sweep`` prints at its end."""
    missing = len(result.tasks) - len(result.found) - len(result.done) - len(result.failed)
    parts = [
        f"{len(result.tasks)} runs: {len(result.found) + len(result.done)} done",
        f"({len(result.done)} of them now)" if result.done else "",
        f"{len(result.failed)} failed" if result.failed else "",
        f"{len(result.elsewhere)} at work in another process" if result.elsewhere else "",
        f"{missing} to do" if only_prepared and missing else "",
    ]
    first, *rest = filter(None, [" ".join(filter(None, parts[:2])), *parts[2:]])
    lines = [", ".join([first, *rest])]
    if only_prepared:
        lines.append("data and thin victims are ready" if not result.failed else "the others are ready")
    if result.failed:
        lines += ["", failures(result.failed), ""]
    if result.found or result.done:
        lines.append(f"records in {runs}; tables with: vbench report --runs {runs} --format markdown")
    return "\n".join(lines)


def failures(failed: Mapping[Task, str]) -> str:
    """A row a failed task; columns that are the same everywhere are left out."""
    rows = [task.columns for task in failed]
    varying = [
        name for name in rows[0] if name in ("victim", "attack") or len({row[name] for row in rows}) > 1
    ]
    table = [
        [*(row[name] for name in varying), reason] for row, reason in zip(rows, failed.values(), strict=True)
    ]
    return tabulate(
        table,
        [*varying, "failed because"],
        disable_numparse=True,
        maxcolwidths=[None] * len(varying) + [_REASON_WIDTH],
    )
