"""An audit as text: one line a check, then the verdict and what to do."""

from __future__ import annotations

from textwrap import fill

from tabulate import tabulate

from vbench.audit.check import Check, Verdict
from vbench.audit.record import Audit
from vbench.errors import unknown_name
from vbench.printable import json_text

FORMATS = ("plain", "markdown", "json")
_HEADER = ["check", "verdict", "measured", "a failure would mean"]
_WIDTHS = [19, None, 58, 46]


def check_format(style: str) -> None:
    """Refuse an unknown format with :class:`BadInput`."""
    if style not in FORMATS:
        raise unknown_name("format", style, FORMATS)


def render(audit: Audit, style: str = "plain") -> str:
    """The whole audit in one of :data:`FORMATS`; raises BadInput for another."""
    check_format(style)
    if style == "json":
        return json_text(audit.model_dump_json(indent=1))
    lines = [[check.name, check.verdict.value, check.measured, check.means] for check in audit.checks]
    table = (
        tabulate(lines, _HEADER, tablefmt="pipe", disable_numparse=True)
        if style == "markdown"
        else tabulate(lines, _HEADER, maxcolwidths=_WIDTHS, disable_numparse=True)
    )
    title = f"**{_title(audit)}**" if style == "markdown" else _title(audit)
    todo = [_advice(check, style) for check in audit.checks if check.verdict is not Verdict.PASS]
    return "\n\n".join([title, table, *(["\n".join(todo)] if todo else []), verdict(audit)])


def verdict(audit: Audit) -> str:
    """The audit in one line."""
    count = ", ".join(f"{audit.count(one)} {one.value}" for one in Verdict)
    failed = [check.name for check in audit.checks if check.verdict is Verdict.FAIL]
    if failed:
        return f"{audit.victim_label}: the evaluation does not hold ({count}): {', '.join(failed)}"
    return f"{audit.victim_label}: the evaluation holds ({count})"


def _title(audit: Audit) -> str:
    threat, badge = audit.config["threat"], "SYNTHETIC " if audit.synthetic else ""
    trials = f"{audit.trials} trial{'s' if audit.trials != 1 else ''}"
    budget = f"L_inf {threat['eps']}, query side, 8-bit"
    queries = f"{audit.queries} of {audit.queries_in_protocol} queries, clean Rank-1 {100 * audit.rank1:.1f}"
    return f"{badge}{audit.protocol} ({trials})   {budget}; audit of {audit.victim_label}, {queries}"


def _advice(check: Check, style: str) -> str:
    text = f"{check.verdict.value} {check.name}: {check.advice}"
    return f"- {text}" if style == "markdown" else fill(text, 110, subsequent_indent="  ")
