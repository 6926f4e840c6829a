"""An audit as text: one line per check, then the advice and the verdict."""

from __future__ import annotations

from textwrap import fill

from tabulate import tabulate

from vbench.audit.record import Audit, Check, Verdict
from vbench.core.errors import unknown_name
from vbench.core.text import json_text
from vbench.reports.frame import to_csv
from vbench.reports.table import style_of

FORMATS = ("plain", "markdown", "json", "latex", "csv")
_HEADER = ["check", "verdict", "measured", "a failure would mean"]
_WIDTHS = [19, None, 58, 46]


def check_format(style: str) -> None:
    """Raise :class:`BadInput` for an unknown format."""
    if style not in FORMATS:
        raise unknown_name("format", style, FORMATS)


def render(audit: Audit, style: str = "plain") -> str:
    """The whole audit in one of :data:`FORMATS`, "csv" with one row per check; BadInput for another."""
    check_format(style)
    if style == "json":
        return json_text(audit.model_dump_json(indent=1))
    if style == "csv":
        return to_csv([_flat(audit, check) for check in audit.checks])
    lines = [[check.name, check.verdict.value, check.measured, check.means] for check in audit.checks]
    todo = [_advice(check, style) for check in audit.checks if check.verdict is not Verdict.PASS]
    if style == "latex":
        page = style_of(style)
        cells = [[page.escape(cell) for cell in line] for line in lines]
        slug, notes = ("audit", audit.victim_label, audit.protocol), [*todo, verdict(audit)]
        return page.table(_HEADER, cells, ["left"] * len(_HEADER), _title(audit), slug, notes)
    table = (
        tabulate(lines, _HEADER, tablefmt="pipe", disable_numparse=True)
        if style == "markdown"
        else tabulate(lines, _HEADER, maxcolwidths=_WIDTHS, disable_numparse=True)
    )
    title = f"**{_title(audit)}**" if style == "markdown" else _title(audit)
    return "\n\n".join([title, table, *(["\n".join(todo)] if todo else []), verdict(audit)])


def _flat(audit: Audit, check: Check) -> dict[str, object]:
    return {
        "id": audit.id,
        "victim": audit.victim_label,
        "protocol": audit.protocol,
        "synthetic": audit.synthetic,
        "eps": audit.config["threat"]["eps"],
        **{name: getattr(check, name) for name in ("name", "measured", "means", "advice")},
        "verdict": check.verdict.value,
    }


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
    if style == "latex":
        return text
    return f"- {text}" if style == "markdown" else fill(text, 110, subsequent_indent="  ")
