"""Full tables: before, after, drop and its interval, spread, best in bold, p, cost, published figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from vbench.errors import unknown_name
from vbench.record import Record, TrialMetrics
from vbench.reports.best import best, interval
from vbench.reports.flat import flat, to_csv, to_json
from vbench.reports.published import Beside
from vbench.reports.rows import HEADINGS, Row, Setting, grouped, rows_of, victim_key
from vbench.reports.select import DEFAULT_METRICS
from vbench.reports.significance import heading, p_values, reference, tested_metric
from vbench.reports.style import Page, style_of

GROUPS = ("victim", "attack", "dataset")

Entry = tuple[Setting, Row]

_BOLD = (
    "Bold: strongest on the victim among rows of the same knowledge, and what ties with it: rows whose drop "
    "interval holds the strongest's drop, or, without an interval, equal figures."
)


@dataclass(frozen=True)
class Versus:
    """The attack that a column of p compares with, and the metric it compares."""

    label: str
    metric: str


def report_of(
    records: Sequence[Record],
    style: str = "markdown",
    metrics: Sequence[str] | None = None,
    group: str | None = None,
    versus: str | None = None,
) -> str:
    """Full tables of records, as text in "markdown", "latex" or "plain"; or flat rows, "csv" and "json".

    One table a setting (data, protocol, budget, side, trials), or one a victim, attack or data set with
    ``group``. What all rows of a table share stands in its title; protocol, budget, trials and data that
    differ within it are columns. Synthetic and real data never share a table. Figures are percent.
    ``versus`` adds p against that attack (:mod:`vbench.reports.significance`). Flat rows are one a record,
    in [0, 1], with all metrics unless some are named; ``group`` orders them.

    Raises BadInput for an unknown style, group or attack to compare with.
    """
    if group is not None and group not in GROUPS:
        raise unknown_name("group", group, GROUPS)
    shown = DEFAULT_METRICS if metrics is None else metrics
    against = Versus(reference(records, versus), tested_metric(shown)) if versus else None
    about = [(str(key[0]) if group else "", entries) for key, entries in _split(records, group).items()]
    if style in ("csv", "json"):
        return _flat([entries for _, entries in about], style, metrics, against)
    page = style_of(style)
    twins = _twins([where for _, entries in about for where, _ in entries])
    return page.join([_table(entries, page, shown, name, against, twins) for name, entries in about])


def _flat(
    tables: Sequence[Sequence[Entry]], style: str, metrics: Sequence[str] | None, versus: Versus | None
) -> str:
    records, more = [], {}
    for entries in tables:
        found = p_values(entries, versus.label, versus.metric) if versus else [None] * len(entries)
        for (_, row), p in zip(entries, found, strict=True):
            records += row.records
            if versus:
                more |= {record.id: {heading(versus.label, versus.metric): p} for record in row.records}
    lines = flat(records, metrics, more)
    return to_csv(lines) if style == "csv" else to_json(lines)


def _split(records: Sequence[Record], group: str | None) -> dict[tuple[object, ...], list[Entry]]:
    found: dict[tuple[object, ...], list[Entry]] = {}
    for where, same in grouped(records).items():
        victims = list(dict.fromkeys(victim_key(one[0]) for one in same))
        for one in sorted(same, key=lambda one: victims.index(victim_key(one[0]))):
            rows = rows_of(one)
            found.setdefault(_key(where, rows[0], group), []).extend((where, row) for row in rows)
    return found


def _key(where: Setting, row: Row, group: str | None) -> tuple[object, ...]:
    """What a table is about: its name first, then what must not differ within it."""
    if group is None:
        return (where,)
    names = {"victim": row.victim, "attack": row.records[0].label, "dataset": where.data}
    return (f"{group} {names[group]}", where.synthetic)


def _table(
    entries: Sequence[Entry],
    page: Page,
    metrics: Sequence[str],
    name: str,
    versus: Versus | None,
    twins: set[str],
) -> str:
    shared, differing = _facts([where for where, _ in entries], twins)
    header = ["victim", "attack", "knowledge", *differing]
    sides = ["left"] * len(header)
    beside = Beside(metrics)
    bold = {metric: best(entries, metric) for metric in metrics}
    lines = []
    for index, (where, row) in enumerate(entries):
        labels = [row.victim, f"  · {row.attack}" if row.control else row.attack, row.knowledge]
        line = [page.escape(cell) for cell in (*labels, *(_fact(where)[fact] for fact in differing))]
        for metric in metrics:
            line += _cells(row, metric, page, index in bold[metric])
        lines.append([*line, *(page.escape(cell) for cell in _cost(row))])
    for metric in metrics:
        header += ["ASR"] if metric == "asr" else [HEADINGS[metric], f"{HEADINGS[metric]} drop"]
    header += ["gradient evaluations", "s"]
    notes = [_BOLD] if any(bold.values()) else []
    if versus:
        header.append(heading(versus.label, versus.metric))
        values = p_values(entries, versus.label, versus.metric)
        for line, p in zip(lines, values, strict=True):
            line.append("" if p is None else page.escape(_p(p)))
        notes.append(_versus_note(entries, values, versus))
    printed = [beside.cell(row.records[0]) if row.records else "" for _, row in entries]
    if any(printed):
        header.append("published")
        for line, cell in zip(lines, printed, strict=True):
            line.append(page.escape(cell))
        notes += beside.notes()
    sides += ["right"] * (len(header) - len(sides))
    sides = ["left" if head == "published" else side for head, side in zip(header, sides, strict=True)]
    badge = "SYNTHETIC " if entries[0][0].synthetic else ""
    slug = [*([name] if name else []), *shared.values()]
    title = badge + "; ".join([*slug, _legend(entries, metrics)])
    return page.table([page.escape(head) for head in header], lines, sides, title, slug, notes)


def _fact(where: Setting) -> dict[str, str]:
    return {
        "protocol": where.protocol,
        "trials": f"{where.trials} trial{'s' if where.trials != 1 else ''}",
        "budget": where.threat,
        "data": f"{where.data} {where.fingerprint[:8]}",
    }


def _facts(settings: Sequence[Setting], twins: set[str]) -> tuple[dict[str, str], list[str]]:
    """What all rows share, and the names of what they do not; data is said where its protocol is a twin's."""
    facts = [_fact(where) for where in settings]
    said = [name for name in facts[0] if name != "data" or any(w.protocol in twins for w in settings)]
    differing = [name for name in said if len({fact[name] for fact in facts}) > 1]
    return {name: facts[0][name] for name in said if name not in differing}, differing


def _twins(settings: Sequence[Setting]) -> set[str]:
    """Protocols that stand here for more than one set of images."""
    pairs = {(where.protocol, where.data, where.fingerprint) for where in settings}
    protocols = [protocol for protocol, *_ in pairs]
    return {protocol for protocol in protocols if protocols.count(protocol) > 1}


def _cells(row: Row, metric: str, page: Page, bold: bool) -> list[str]:
    if metric == "asr":
        return ["" if row.asr is None else page.strong(f"{row.asr:.1f}", bold)]
    before, after = row.before[metric], row.after[metric]
    attacked = f"{after:.1f}{_spread(row.attacked, metric)}"
    if row.spread:
        attacked += f" / {row.spread[metric]:.1f}"
    drop = f"{before - after:.1f}"
    bounds = interval(row, metric)
    if bounds:
        drop += f" [{bounds[0]:.1f}, {bounds[1]:.1f}]"
    if before:
        drop += f" ({100 * (before - after) / before:.0f} %)"
    clean = page.escape(f"{before:.1f}{_spread(row.clean, metric)} → ")
    return [clean + page.strong(page.escape(attacked), bold), page.escape(drop)]


def _spread(runs: Sequence[list[TrialMetrics]], metric: str) -> str:
    """Standard deviation over trials, mean over seeds; nothing for a single trial."""
    found = [stdev(getattr(trial, metric) for trial in trials) for trials in runs if len(trials) > 1]
    return f" ± {100 * mean(found):.1f}" if found else ""


def _cost(row: Row) -> list[str]:
    return [row.evaluations, f"{row.seconds:.1f}"] if row.evaluations else ["", ""]


def _legend(entries: Sequence[Entry], metrics: Sequence[str]) -> str:
    seeds = max(row.seeds for _, row in entries)
    over = f" / over up to {seeds} seeds" if seeds > 1 else ""
    text = f"before → after, percent, ± sd over trials{over}; drop in points (relative)"
    if any(interval(row, metric) for _, row in entries for metric in metrics):
        text += ", [95 % paired bootstrap interval over queries]"
    return text


def _versus_note(entries: Sequence[Entry], values: Sequence[float | None], versus: Versus) -> str:
    note = (
        f"p: two-sided paired permutation test over queries against {versus.label} on the same victim, by "
        f"{HEADINGS[versus.metric]}, Holm's correction over this table; it says nothing of the seed."
    )
    rivals = [row for _, row in entries if row.records and row.records[0].label != versus.label]
    tested = sum(value is not None for value in values)
    if tested < len(rivals):
        note += (
            f" {len(rivals) - tested} of {len(rivals)} rows have no p: no record of {versus.label} with the "
            "same setting, victim and seed, or no values of single queries (archives keep none)."
        )
    return note


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"
