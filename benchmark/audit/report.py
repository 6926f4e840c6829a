"""An audit as text: one line per check, then the advice and the verdict."""

from __future__ import annotations

from textwrap import fill

from vbench.audit.record import Audit, Check, Verdict
from vbench.core.text import json_text
from vbench.reports.table import FORMATS, check_format, escape_markdown, html_page, simple, write

_HEADER = ("check", "verdict", "measured", "a failure would mean")
_WIDTHS = (19, None, 58, 46)


def render(audit: Audit, style: str = "plain") -> str:
    """The whole audit as plain, markdown, JSON, LaTeX, HTML or CSV text, with one row per check in CSV."""
    check_format(style, (*FORMATS, "html"))
    if style == "json":
        return json_text(audit.model_dump_json(indent=1))
    lines = [[check.name, check.verdict.value, check.measured, check.means] for check in audit.checks]
    todo = [_advice(check, style) for check in audit.checks if check.verdict is not Verdict.PASS]
    table = simple(
        _title(audit),
        _HEADER,
        lines,
        f"audit {audit.victim_label} {audit.protocol}",
        notes=[*todo, verdict(audit)] if style in ("latex", "html") else (),
        flat=lambda: [_flat(audit, check) for check in audit.checks],
        widths=_WIDTHS,
    )
    if style == "html":
        return html_page(_title(audit), write([table], style))
    if style in ("csv", "latex"):
        return write([table], style)
    last = escape_markdown(verdict(audit)) if style == "markdown" else verdict(audit)
    return "\n\n".join([write([table], style), *(["\n".join(todo)] if todo else []), last])


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
