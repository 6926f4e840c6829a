"""A gate as text: what moved, by how much, and what else is not as it was."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from vbench.gate.check import Gate, Row, Verdict
from vbench.gate.metrics import Metric
from vbench.gate.spread import Spread
from vbench.reports.style import Markdown

_HEADER = ["victim, attack", "figure", "baseline", "now", "change", "allowed", "verdict"]
_SIDES = ["left", "left", "right", "right", "right", "right", "left"]
_WIDTHS = [34, 44, None, None, None, None, None]


def render(gate: Gate, every: bool = False) -> str:
    """For a terminal: the table of what moved (of every figure if asked), causes, the verdict."""
    rows = gate.rows if every else [*gate.moved, *gate.unguarded]
    parts = [_plain(rows)] if rows else []
    if gate.causes and gate.moved:
        parts.append("\n".join(["not as in the baseline:", *(f"- {cause}" for cause in gate.causes)]))
    return "\n\n".join([*parts, verdict(gate)])


def summary(gate: Gate) -> str:
    """For the summary page of a CI job: markdown, every figure folded away under what moved."""
    page = Markdown()
    parts = [f"### vbench check: {page.escape(verdict(gate))}"]
    if not gate.green:
        parts.append(_pipes([*gate.moved, *gate.unguarded], page))
    if gate.causes:
        listed = "\n".join(f"- {page.escape(cause)}" for cause in gate.causes)
        parts += ["Not as in the baseline:", listed]
    figures = [row for row in gate.rows if row.metric]
    parts.append(f"<details><summary>all {len(figures)} figures</summary>")
    return "\n\n".join([*parts, _pipes(figures, page), "</details>"]) + "\n"


def verdict(gate: Gate) -> str:
    """The gate in one line."""
    seeds = f"{len(gate.seeds)} seed{'s' if len(gate.seeds) != 1 else ''}"
    if gate.green:
        same = sum(row.verdict is Verdict.SAME for row in gate.rows)
        return f"green: {len(gate.rows)} figures within bounds, {same} of them to the last bit ({seeds})"
    said = []
    for rows, what in ((gate.moved, "moved"), (gate.unguarded, "cannot be guarded, any result is allowed")):
        names = "; ".join(dict.fromkeys(str(row.subject) for row in rows))
        if rows:
            said.append(f"{len(rows)} of {len(gate.rows)} figures {what} ({seeds}): {names}")
    return f"red: {'; '.join(said)}"


def heading(row: Row) -> str:
    """What a row is about, besides its subject."""
    return f"{row.metric.label} {row.note}".rstrip() if row.metric else row.note


def explained(row: Row) -> str:
    """One row in a sentence."""
    if row.now is None:
        return f"{row.subject}: {heading(row)}"
    before, now, change, bound = _figures(row)
    return f"{row.subject}: {heading(row)} {before} -> {now} ({change}, allowed {bound}): {row.word}"


def spread_text(metric: Metric, spread: Spread) -> str:
    """The mean, with the deviation over seeds where there is one."""
    mean = metric.shown(spread.mean)
    return f"{mean} ± {metric.shown(spread.sd)}" if spread.sd else mean


def _plain(rows: Sequence[Row]) -> str:
    lines = [_cells(row) for row in rows]
    return tabulate(lines, _HEADER, colalign=_SIDES, maxcolwidths=_WIDTHS, disable_numparse=True)


def _pipes(rows: Sequence[Row], page: Markdown) -> str:
    lines = [[page.escape(cell) for cell in _cells(row)] for row in rows]
    return tabulate(lines, _HEADER, tablefmt="pipe", colalign=_SIDES, disable_numparse=True)


def _cells(row: Row) -> list[str]:
    # A record's warning or an error's text may hold line breaks, and a cell may not.
    about = " ".join(heading(row).split())
    if row.now is None:
        before = spread_text(row.metric, row.before) if row.metric and row.before else ""
        return [str(row.subject), about, before, "", "", "", row.word]
    return [str(row.subject), about, *_figures(row), row.word]


def _figures(row: Row) -> list[str]:
    metric = row.metric
    return [
        spread_text(metric, row.before),
        spread_text(metric, row.now),
        metric.shown(row.change, "+"),
        f"± {metric.shown(row.bound)}",
    ]
