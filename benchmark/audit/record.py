"""The result of an audit: checks, verdicts, their JSON file, and their tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from vbench.core.files import check_inside, write_atomically
from vbench.core.plugins import reason
from vbench.records.record import in_file_names

if TYPE_CHECKING:
    from vbench.audit.evidence import Evidence


from textwrap import fill

from vbench.core.text import count_of, json_text
from vbench.reports.table import FORMATS, check_format, escape_markdown, html_page, simple, write


class Verdict(str, Enum):
    """``warn``: the check neither contradicts nor supports the evaluation."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


class Check(BaseModel):
    """The result of one check. ``figures``: the numbers in the text ``measured``, shares in [0, 1].

    ``means`` is what a failure of this check would mean, whatever the verdict; ``advice`` what to do then.
    """

    model_config = ConfigDict(extra="allow")

    name: str
    verdict: Verdict
    measured: str
    means: str
    advice: str
    figures: dict[str, float] = Field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """The result of a probe's measurement."""

    verdict: Verdict
    measured: str
    figures: dict[str, float] = field(default_factory=dict)


class Unmeasured(Exception):
    """A number that a probe needs could not be measured; the message says why."""


@dataclass(frozen=True)
class Probe:
    """One check, with what its failure means and what to do then."""

    name: str
    means: str
    advice: str
    measure: Callable[[Evidence], Finding]

    def ask(self, evidence: Evidence) -> Check:
        """Measure; an error is a failure of the check, since an evaluation needs the same code to work."""
        try:
            found = self.measure(evidence)
        except Unmeasured as error:
            found = Finding(Verdict.FAIL, f"no result: {error}")
        except (Exception, SystemExit) as error:
            import torch  # which reading the result of an audit does not need

            if isinstance(error, torch.cuda.OutOfMemoryError):
                raise
            found = Finding(Verdict.FAIL, f"no result: {reason(error)}")
        return Check(name=self.name, means=self.means, advice=self.advice, **vars(found))


SCHEMA = 1


class Audit(BaseModel):
    """The audit of one victim on one dataset under one budget; ``id`` is the hash of ``config``.

    ``queries`` of ``queries_in_protocol`` were used; ``rank1`` is their clean Rank-1, in [0, 1].
    """

    model_config = ConfigDict(extra="allow")

    schema_version: int = SCHEMA
    id: str
    created: str
    config: dict[str, Any]
    victim_label: str
    protocol: str
    synthetic: bool
    queries: int
    queries_in_protocol: int
    trials: int
    rank1: float
    checks: list[Check]
    environment: dict[str, Any] = Field(default_factory=dict)

    def count(self, verdict: Verdict) -> int:
        """The number of checks with this verdict."""
        return sum(check.verdict is verdict for check in self.checks)

    @property
    def holds(self) -> bool:
        """Whether no check failed."""
        return self.count(Verdict.FAIL) == 0

    def write(self, runs: Path) -> Path:
        """Store it in ``runs``/audits, separate from the run records; returns the path."""
        name = f"{in_file_names(self.config['victim']['name'])}-{self.id}.json"
        path = check_inside(runs, runs / "audits" / name)
        write_atomically(path, self.model_dump_json(indent=1) + "\n")
        return path


_HEADER = ("check", "verdict", "measured", "a failure would mean")


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
    trials = count_of(audit.trials, "trial")
    budget = f"L_inf {threat['eps']}, query side, 8-bit"
    queries = f"{audit.queries} of {audit.queries_in_protocol} queries, clean Rank-1 {100 * audit.rank1:.1f}"
    return f"{badge}{audit.protocol} ({trials})   {budget}; audit of {audit.victim_label}, {queries}"


def _advice(check: Check, style: str) -> str:
    text = f"{check.verdict.value} {check.name}: {check.advice}"
    if style == "latex":
        return text
    return f"- {text}" if style == "markdown" else fill(text, 110, subsequent_indent="  ")
