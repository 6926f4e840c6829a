"""A gate's outcome as text, markdown or JUnit XML."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from xml.etree import ElementTree as ET

from vbench.core.text import count_of, json_text, lines
from vbench.gate.baseline import METRICS, Baseline, Metric, Unguarded
from vbench.gate.compare import Gate, Row, Verdict, seeds_text
from vbench.metrics.statistics import Spread
from vbench.reports.table import Column, Table, escape_markdown, simple, write


def render(gate: Gate, every: bool = False) -> str:
    """For a terminal: red metrics (all with ``every``, and for a model) in a table, causes, the verdict."""
    rows = gate.rows if every or gate.of_model else [*gate.moved, *gate.unguarded]
    parts = [write([_table(rows)], "plain")] if rows else []
    if gate.causes and gate.moved:
        parts.append("\n".join(["not as in the baseline:", *(f"- {cause}" for cause in gate.causes)]))
    return "\n\n".join([*parts, verdict(gate)])


def to_json(gate: Gate) -> str:
    """Every figure unrounded, over seeds, with its verdict; what differs from the baseline; the verdict."""
    rows = [
        {
            "subject": str(row.subject),
            "figure": row.metric.name if row.metric else "",
            "note": row.note,
            "baseline": row.before.mean if row.before else None,
            "now": row.now.mean if row.now else None,
            "change": row.change,
            "allowed": row.bound,
            "verdict": row.word,
            "red": row.verdict.red,
        }
        for row in gate.rows
    ]
    found = {"green": gate.green, "verdict": verdict(gate), "causes": gate.causes, "figures": rows}
    return json_text(json.dumps(found, indent=1))


def summary(gate: Gate) -> str:
    """For the summary page of a CI job: markdown with the red metrics, and all metrics folded away below."""
    parts = [f"### vbench check: {escape_markdown(verdict(gate))}"]
    if not gate.green:
        parts.append(write([_table([*gate.moved, *gate.unguarded])], "markdown"))
    if gate.causes:
        listed = "\n".join(f"- {escape_markdown(cause)}" for cause in gate.causes)
        parts += ["Not as in the baseline:", listed]
    figures = [row for row in gate.rows if row.metric]
    parts.append(f"<details><summary>all {len(figures)} figures</summary>")
    return "\n\n".join([*parts, write([_table(figures)], "markdown"), "</details>"]) + "\n"


def verdict(gate: Gate) -> str:
    """The gate in one line."""
    seeds = count_of(len(gate.seeds), "seed")
    if gate.of_model:
        found = [_of_model(rows) for _, rows in groupby(gate.moved, key=lambda row: row.subject)]
        if found:
            return f"red: {'; '.join(found)} ({seeds})"
        return f"green: model holds {count_of(len(gate.rows), 'floor')} ({seeds})"
    if gate.green:
        same = sum(row.verdict is Verdict.SAME for row in gate.rows)
        return f"green: {len(gate.rows)} figures within bounds, {same} of them to the last bit ({seeds})"
    parts = []
    for rows, what in ((gate.moved, "moved"), (gate.unguarded, "cannot be guarded, any result is allowed")):
        names = "; ".join(dict.fromkeys(str(row.subject) for row in rows))
        if rows:
            parts.append(f"{len(rows)} of {len(gate.rows)} figures {what} ({seeds}): {names}")
    return f"red: {'; '.join(parts)}"


def _of_model(red: Iterable[Row]) -> str:
    """What is red about a model under one attack, or clean: how much weaker it is, or what failed."""
    rows = list(red)
    falls = [(row.fall, row.metric) for row in rows if row.metric and row.fall is not None]
    if not falls:
        return explained(rows[0])
    fall, metric = max(falls, key=lambda one: one[0])
    attack = rows[0].subject.attack
    where = f"under {attack}" if attack else "on clean images"
    than = " than asked" if any(row.floor and row.floor.asked for row in rows) else ""
    return f"model weaker{than} {where} by {metric.shown(fall)} points ({metric.name})"


def heading(row: Row) -> str:
    """A row's metric and note."""
    return f"{row.metric.label} {row.note}".rstrip() if row.metric else row.note


def explained(row: Row) -> str:
    """One row in a sentence."""
    figures = _figures(row)
    if figures is None:
        return f"{row.subject}: {heading(row)}"
    before, now, change, bound = figures
    return f"{row.subject}: {heading(row)} {before} -> {now} ({change}, allowed {bound}): {row.word}"


def spread_text(metric: Metric, spread: Spread) -> str:
    """The mean, with the standard deviation over seeds if it is not 0."""
    mean = metric.shown(spread.mean)
    return f"{mean} ± {metric.shown(spread.sd)}" if spread.sd else mean


def _table(rows: Sequence[Row]) -> Table:
    numbers = [Column(name, True) for name in ("baseline", "now", "change", "allowed")]
    columns: list[str | Column] = ["victim, attack", "figure", *numbers, "verdict"]
    return simple("", columns, [_cells(row) for row in rows])


def _cells(row: Row) -> list[str]:
    # Warnings and errors may contain line breaks, which a cell may not.
    about = " ".join(heading(row).split())
    figures = _figures(row)
    if figures is None:
        before = spread_text(row.metric, row.before) if row.metric and row.before else ""
        return [str(row.subject), about, before, "", "", "", row.word]
    return [str(row.subject), about, *figures, row.word]


def _figures(row: Row) -> list[str] | None:
    """Before, now, change and bound as text; None for a row that lacks one of them."""
    metric, before, now, change = row.metric, row.before, row.now, row.change
    if metric is None or now is None or (row.floor is None and (before is None or row.bound is None)):
        return None
    return [
        "" if before is None else spread_text(metric, before),
        spread_text(metric, now),
        "" if change is None else metric.shown(change, "+"),
        f"± {metric.shown(row.bound or 0.0)}" if row.floor is None else f"≥ {metric.shown(row.floor.least)}",
    ]


def render_baseline(baseline: Baseline) -> str:
    """A table of a baseline's metrics, their bounds, and the loss of strength from which a gate is red."""
    seeds = len(baseline.seeds)
    lines, blind = [], []
    for subject in baseline.subjects:
        loss = baseline.smallest_loss(subject, seeds) if subject.attack else None
        seen = "" if loss is None else f"{100 * loss:.0f} % weaker"
        if loss is not None and loss >= 1:
            blind.append(str(subject))
        for position, (name, spread) in enumerate(subject.metrics.items()):
            metric = METRICS[name]
            bound = f"± {metric.shown(baseline.bound(spread, seeds))}"
            figures = [spread_text(metric, spread), bound, "" if position else seen]
            lines.append([str(subject), metric.label, *figures])
    numbers = [Column(name, True) for name in (f"mean ± sd of {seeds} seeds", "allowed", "red from")]
    parts = [write([simple("", ["victim, attack", "figure", *numbers], lines)], "plain")]
    if blind:
        parts.append(f"could stop working within these bounds, more seeds narrow them: {'; '.join(blind)}")
    return "\n\n".join(parts)


def render_unguarded(figures: Sequence[Unguarded]) -> str:
    """Metrics that are left out of a baseline because no result could exceed their bounds, one line each."""
    lines = ["left out, since any result would be allowed:"]
    for one in figures:
        metric = METRICS[one.metric]
        bound = f"± {metric.shown(one.bound)}"
        lines.append(f"- {one.subject}: {metric.label} {bound} {seeds_text(one.needed)}")
    return "\n".join(lines)


def render_update(old: Baseline, new: Baseline) -> str:
    """A table of the metrics that an update changes, old and new, and the number of unchanged ones."""
    before = {subject.key: subject.metrics for subject in old.subjects}
    after = {subject.key: subject for subject in new.subjects}
    lines, same = [], 0
    for subject in {**{one.key: one for one in old.subjects}, **after}.values():
        metrics = after[subject.key].metrics if subject.key in after else {}
        known = before.get(subject.key, {})
        for name in dict.fromkeys((*known, *metrics)):
            pair = known.get(name), metrics.get(name)
            if pair[0] == pair[1]:
                same += 1
                continue
            metric = METRICS[name]
            shown = [f"{spread_text(metric, one)} ({one.n})" if one else "absent" for one in pair]
            lines.append([str(subject), metric.label, *shown])
    count = f"{len(lines)} figures rewritten, {same} as they were"
    if not lines:
        return count
    numbers = [Column(name, True) for name in ("old: mean ± sd (seeds)", "new")]
    table = simple("", ["victim, attack", "figure", *numbers], lines)
    return f"{write([table], 'plain')}\n\n{count}"


def to_junit(gate: Gate) -> str:
    """The JUnit XML text. A red metric is a failure, a failed run an error.

    Control characters are escaped, because XML cannot contain them.
    """
    suites = ET.Element("testsuites", _counts("vbench check", gate.rows, sum(gate.seconds.values())))
    for subject in gate.baseline.subjects:
        rows = [row for row in gate.rows if row.subject is subject]
        name = lines(f"{subject} ({subject.protocol})")
        seconds = gate.seconds.get(subject.key, 0.0)
        suite = ET.SubElement(suites, "testsuite", _counts(name, rows, seconds))
        for row in rows:
            _case(suite, name, row)
        if subject is gate.baseline.victims[0] and gate.causes:
            ET.SubElement(suite, "system-out").text = lines("\n".join(gate.causes))
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _case(suite: ET.Element, where: str, row: Row) -> None:
    case = ET.SubElement(suite, "testcase", classname=where, name=lines(heading(row)), time="0")
    text = lines(explained(row))
    if row.verdict is Verdict.FAILED:
        ET.SubElement(case, "error", message=text, type=row.verdict.value)
    elif row.verdict.red:
        ET.SubElement(case, "failure", message=text, type=row.word).text = text
    else:
        ET.SubElement(case, "system-out").text = text


def _counts(name: str, rows: Sequence[Row], seconds: float) -> dict[str, str]:
    errors = sum(row.verdict is Verdict.FAILED for row in rows)
    failures = sum(row.verdict.red for row in rows) - errors
    return {
        "name": name,
        "tests": str(len(rows)),
        "failures": str(failures),
        "errors": str(errors),
        "skipped": "0",
        "time": f"{seconds:.2f}",
    }
