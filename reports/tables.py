"""Full, comparison, transfer and published tables, from records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import mean, stdev

from tabulate import tabulate

from vbench.core.errors import unknown_name
from vbench.records.record import Record
from vbench.records.store import older_note
from vbench.reports.frame import flat, to_csv, to_json
from vbench.reports.published import NOT_IDS, Published, PublishedCells, References
from vbench.reports.rows import (
    HEADINGS,
    Row,
    Setting,
    best,
    change,
    grouped,
    heading,
    interval,
    p_values,
    reference,
    rows_of,
    setting,
    tested_metric,
    victim_key,
)
from vbench.reports.select import DEFAULT_METRICS, KNOWN_METRICS
from vbench.reports.table import Page, style_of

GROUPS = ("victim", "attack", "dataset")

Entry = tuple[Setting, Row]

_BOLD = (
    "Bold: strongest on the victim among rows of the same knowledge, and what ties with it: rows whose drop "
    "interval contains the strongest's drop, or, without an interval, equal values."
)


@dataclass(frozen=True)
class Versus:
    """The reference attack and the metric of a column of p-values."""

    label: str
    metric: str

    @property
    def heading(self) -> str:
        """Heading of the column."""
        return heading(self.label, self.metric)


@dataclass(frozen=True)
class Sheet:
    """One table. ``name`` is the value of ``--group``, empty without it.

    ``shared`` are the facts of the setting that all rows share, for the title; ``differing`` the names of the
    others, each a column (:func:`facts`). ``bold``: metric -> positions of the best rows. ``p`` and
    ``published`` have one entry per row; ``published`` is empty if no source has a value.
    """

    name: str
    entries: Sequence[Entry]
    shared: dict[str, str]
    differing: Sequence[str]
    bold: dict[str, set[int]]
    p: Sequence[float | None]
    published: Sequence[str]
    legend: str
    notes: Sequence[str]

    @property
    def synthetic(self) -> bool:
        """Whether its data are synthetic; synthetic and real data never share a table."""
        return self.entries[0][0].synthetic

    @property
    def about(self) -> list[str]:
        """The parts of the title before the legend."""
        return [*([self.name] if self.name else []), *self.shared.values()]


def sheets(
    records: Sequence[Record], metrics: Sequence[str], group: str | None = None, versus: Versus | None = None
) -> list[Sheet]:
    """One table per setting (data, protocol, budget, side, trials), or per victim, attack or data set.

    Raises BadInput for an unknown group.
    """
    tables = split(records, group)
    twins = _twins([where for _, entries in tables for where, _ in entries])
    return [_sheet(name, entries, metrics, versus, twins) for name, entries in tables]


def versus_of(records: Sequence[Record], attack: str | None, metrics: Sequence[str]) -> Versus | None:
    """Resolve ``--versus``; raises BadInput for an attack without records or an ambiguous name."""
    return Versus(reference(records, attack), tested_metric(metrics)) if attack else None


def split(records: Sequence[Record], group: str | None = None) -> list[tuple[str, list[Entry]]]:
    """The rows of each table with its name; raises BadInput for an unknown group."""
    if group is not None and group not in GROUPS:
        raise unknown_name("group", group, GROUPS)
    found: dict[tuple[object, ...], list[Entry]] = {}
    for where, same in grouped(records).items():
        victims = list(dict.fromkeys(victim_key(one[0]) for one in same))
        for one in sorted(same, key=lambda one: victims.index(victim_key(one[0]))):
            rows = rows_of(one)
            found.setdefault(_key(where, rows[0], group), []).extend((where, row) for row in rows)
    return [(str(key[0]) if group else "", entries) for key, entries in found.items()]


def facts(where: Setting) -> dict[str, str]:
    """The facts of a setting for the title or columns."""
    return {
        "protocol": where.protocol,
        "trials": f"{where.trials} trial{'s' if where.trials != 1 else ''}",
        "budget": where.threat,
        "data": f"{where.data} {where.fingerprint[:8]}",
    }


def _key(where: Setting, row: Row, group: str | None) -> tuple[object, ...]:
    """The key of a table: its name, then the facts that must not differ within it."""
    if group is None:
        return (where,)
    names = {"victim": row.victim, "attack": row.records[0].label, "dataset": where.data}
    return (f"{group} {names[group]}", where.synthetic)


def _sheet(
    name: str, entries: Sequence[Entry], metrics: Sequence[str], versus: Versus | None, twins: set[str]
) -> Sheet:
    shared, differing = _facts([where for where, _ in entries], twins)
    bold = {metric: best(entries, metric) for metric in metrics}
    p = p_values(entries, versus.label, versus.metric) if versus else [None] * len(entries)
    published = PublishedCells(metrics)
    printed = [published.cell(row.records[0]) if row.records else "" for _, row in entries]
    notes = [_BOLD] if any(bold.values()) else []
    if versus:
        notes.append(_versus_note(entries, p, versus))
    notes += published.notes()
    records = [record for _, row in entries for record in row.records]
    notes += [*_changed_note(records), *older_note(records)]
    legend = _legend(entries, metrics)
    return Sheet(name, entries, shared, differing, bold, p, printed if any(printed) else (), legend, notes)


def _facts(settings: Sequence[Setting], twins: set[str]) -> tuple[dict[str, str], list[str]]:
    """The facts that all rows share, and the names of the others; data only if a protocol is in ``twins``."""
    found = [facts(where) for where in settings]
    said = [name for name in found[0] if name != "data" or any(w.protocol in twins for w in settings)]
    differing = [name for name in said if len({fact[name] for fact in found}) > 1]
    return {name: found[0][name] for name in said if name not in differing}, differing


def _twins(settings: Sequence[Setting]) -> set[str]:
    """Protocols that occur here with more than one set of images."""
    pairs = {(where.protocol, where.data, where.fingerprint) for where in settings}
    protocols = [protocol for protocol, *_ in pairs]
    return {protocol for protocol in protocols if protocols.count(protocol) > 1}


def _legend(entries: Sequence[Entry], metrics: Sequence[str]) -> str:
    seeds = max(row.seeds for _, row in entries)
    over = f" / over up to {seeds} seeds" if seeds > 1 else ""
    text = f"before → after, percent, ± sd over trials{over}; drop in points (relative)"
    if any(interval(row, metric) for _, row in entries for metric in metrics):
        text += ", [95 % paired bootstrap interval over queries]"
    return text


def _changed_note(records: Sequence[Record]) -> list[str]:
    """A warning that lists records whose content was changed; their numbers are shown unchanged."""
    found = [f"{record.id} ({reason})" for record in records if (reason := record.fault()) is not None]
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return [f"WARNING, not what a run wrote: {', '.join(found[:5])}{more}"] if found else []


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


def report_of(
    records: Sequence[Record],
    style: str = "markdown",
    metrics: Sequence[str] | None = None,
    group: str | None = None,
    versus: str | None = None,
) -> str:
    """Full tables of records, as text in "markdown", "latex" or "plain"; or flat rows, "csv" and "json".

    One table per setting (data, protocol, budget, side, trials), or with ``group`` per victim, attack or data
    set. Facts that all rows of a table share are in its title; protocol, budget, trials and data that differ
    within it are columns. Synthetic and real data never share a table. Values are percent. ``versus`` adds p
    against that attack (:mod:`vbench.reports.rows`). There is one flat row per record, in [0, 1], with all
    metrics unless some are named; ``group`` orders them.

    Raises BadInput for an unknown style, group or attack to compare with.
    """
    shown = DEFAULT_METRICS if metrics is None else metrics
    if style in ("csv", "json"):
        tables = [entries for _, entries in split(records, group)]
        return _flat(tables, style, metrics, versus_of(records, versus, shown))
    page = style_of(style)
    against = versus_of(records, versus, shown)
    return page.join(
        [_table(sheet, page, shown, against) for sheet in sheets(records, shown, group, against)]
    )


def _flat(
    tables: Sequence[Sequence[Entry]], style: str, metrics: Sequence[str] | None, versus: Versus | None
) -> str:
    records: list[Record] = []
    more: dict[str, dict[str, object]] = {}
    for entries in tables:
        found = p_values(entries, versus.label, versus.metric) if versus else [None] * len(entries)
        for (_, row), p in zip(entries, found, strict=True):
            records += row.records
            if versus:
                more |= {record.id: {versus.heading: p} for record in row.records}
    lines = flat(records, metrics, more)
    return to_csv(lines) if style == "csv" else to_json(lines)


def _table(sheet: Sheet, page: Page, metrics: Sequence[str], versus: Versus | None) -> str:
    header = ["victim", "attack", "knowledge", *sheet.differing]
    sides = ["left"] * len(header)
    lines = []
    for index, (where, row) in enumerate(sheet.entries):
        labels = [row.victim, f"  · {row.attack}" if row.control else row.attack, row.knowledge]
        line = [page.escape(cell) for cell in (*labels, *(facts(where)[fact] for fact in sheet.differing))]
        for metric in metrics:
            line += _cells(row, metric, page, index in sheet.bold[metric])
        lines.append([*line, *(page.escape(cell) for cell in _cost(row))])
    for metric in metrics:
        header += ["ASR"] if metric == "asr" else [HEADINGS[metric], f"{HEADINGS[metric]} drop"]
    header += ["gradient evaluations", "s"]
    if versus:
        header.append(versus.heading)
        for line, p in zip(lines, sheet.p, strict=True):
            line.append(page.escape(shown_p(p)))
    if sheet.published:
        header.append("published")
        for line, cell in zip(lines, sheet.published, strict=True):
            line.append(page.escape(cell))
    sides += ["right"] * (len(header) - len(sides))
    sides = ["left" if head == "published" else side for head, side in zip(header, sides, strict=True)]
    badge = "SYNTHETIC " if sheet.synthetic else ""
    title = badge + "; ".join([*sheet.about, sheet.legend])
    heads = [page.escape(head) for head in header]
    return page.table(heads, lines, sides, title, sheet.about, sheet.notes)


def _cells(row: Row, metric: str, page: Page, bold: bool) -> list[str]:
    if metric == "asr":
        return ["" if row.asr is None else page.strong(f"{row.asr:.1f}", bold)]
    found = change(row, metric)
    drop = _joined(found.drop, found.interval, found.relative)
    clean = page.escape(f"{_joined(found.clean, found.clean_spread)} → ")
    attacked = page.escape(_joined(found.attacked, found.attacked_spread))
    return [clean + page.strong(attacked, bold), page.escape(drop)]


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _cost(row: Row) -> list[str]:
    return [row.evaluations, f"{row.seconds:.1f}"] if row.evaluations else ["", ""]


def shown_p(value: float | None) -> str:
    """A p-value as text for tables."""
    if value is None:
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


@dataclass(frozen=True)
class Cell:
    """A metric after the attack, percent: mean over seeds and its standard deviation (None for one seed)."""

    value: float
    spread: float | None
    seeds: int


def cells(records: Sequence[Record], metric: str) -> dict[tuple[str, str], Cell]:
    """(attack, victim) -> cell, for records of one setting, in the order they come."""
    found: dict[tuple[str, str], list[float]] = {}
    for record in records:
        key = (record.label, _victim(record))
        found.setdefault(key, []).append(100 * record.mean("adversarial", metric))
    return {
        key: Cell(mean(values), stdev(values) if len(values) > 1 else None, len(values))
        for key, values in found.items()
    }


def comparison(records: Sequence[Record], metric: str = "r1", style: str = "markdown") -> str:
    """One table per setting: ``metric`` after each attack, percent, mean ± sd over seeds; lowest in bold.

    The first row is the victims' clean value. Records of different protocols, budgets, sides or data never
    share a table; attacks crafted on a surrogate have a separate one. "csv" and "json" have one row per cell,
    unrounded, in [0, 1]. Raises BadInput for an unknown metric or format.
    """
    if metric not in HEADINGS:
        raise unknown_name("metric", metric, HEADINGS)
    grouped: dict[tuple[Setting, str], list[Record]] = {}
    for record in records:
        grouped.setdefault((setting(record), record.surrogate), []).append(record)
    if style in ("csv", "json"):
        lines = [
            line for (where, _), same in grouped.items() for line in _flat_comparison(where, same, metric)
        ]
        return to_csv(lines) if style == "csv" else to_json(lines)
    page = style_of(style)
    return page.join(
        [
            _comparison_table(where, same, metric, page, style != "plain")
            for (where, _), same in grouped.items()
        ]
    )


def _flat_comparison(where: Setting, records: Sequence[Record], metric: str) -> list[dict[str, object]]:
    first, clean = records[0], _clean(records, metric)
    shared = {
        "protocol": where.protocol,
        "synthetic": where.synthetic,
        "data": f"{where.data} {where.fingerprint}",
        "budget": where.threat,
        "trials": where.trials,
        "surrogate": first.surrogate,
        "metric": metric,
    }
    return [
        {
            **shared,
            "attack": attack,
            "victim": victim,
            "clean": clean[victim] / 100,
            "attacked": cell.value / 100,
            "sd": None if cell.spread is None else cell.spread / 100,
            "seeds": cell.seeds,
        }
        for (attack, victim), cell in cells(records, metric).items()
    ]


def _comparison_table(where: Setting, records: Sequence[Record], metric: str, page: Page, bold: bool) -> str:
    found, clean = cells(records, metric), _clean(records, metric)
    attacks = list(dict.fromkeys(attack for attack, _ in found))
    lowest = {victim: min(cell.value for (_, of), cell in found.items() if of == victim) for victim in clean}
    lines = [["(clean)", *(f"{value:.1f}" for value in clean.values())]]
    for attack in attacks:
        best = [lowest[victim] if bold else None for victim in clean]
        row = [found.get((attack, victim)) for victim in clean]
        shown = [_shown(cell, least, page) for cell, least in zip(row, best, strict=True)]
        lines.append([page.escape(attack), *shown])
    sides = ["left", *["right"] * len(clean)]
    header = [page.escape(name) for name in ("attack", *clean)]
    surrogate = records[0].surrogate
    crafted = f" crafted on {surrogate}" if surrogate else ""
    title = f"{where.title}; {HEADINGS[metric]} after the attack{crafted}, %"
    slug = ("compare", where.protocol, where.threat, surrogate, metric)
    return page.table(header, lines, sides, title, slug, ())


def _clean(records: Sequence[Record], metric: str) -> dict[str, float]:
    """Victim -> its clean value, percent, mean over the records."""
    values: dict[str, list[float]] = {}
    for record in records:
        values.setdefault(_victim(record), []).append(100 * record.mean("clean", metric))
    return {victim: mean(found) for victim, found in values.items()}


def _shown(cell: Cell | None, lowest: float | None, page: Page) -> str:
    if cell is None:
        return ""
    text = f"{cell.value:.1f}" if cell.spread is None else f"{cell.value:.1f} ± {cell.spread:.1f}"
    return page.strong(page.escape(text), cell.value == lowest)


def _victim(record: Record) -> str:
    return record.victim_label or record.config["victim"]["name"]


_CLEAN = "(clean)"


def transfer_matrices(records: Sequence[Record], metric: str = "r1", style: str = "simple") -> str:
    """One matrix per attack and setting: ``metric`` in percent after the attack, mean over trials and seeds.

    Rows are the surrogates an attack was crafted on, columns the victims it was applied to; the first row is
    the victims' clean value, the last column the mean over victims other than the surrogate.
    """
    grouped: dict[tuple[Setting, str], list[Record]] = {}
    for record in records:
        if record.surrogate:
            grouped.setdefault((setting(record), record.label), []).append(record)
    return "\n\n".join(
        f"{where.title}   {attack}, {HEADINGS[metric]} after the attack, %\n\n{_matrix(same, metric, style)}"
        for (where, attack), same in grouped.items()
    )


def _matrix(records: Sequence[Record], metric: str, style: str) -> str:
    victims = list(dict.fromkeys(_victim(record) for record in records))
    surrogates = list(dict.fromkeys(record.surrogate for record in records))
    lines = [[_CLEAN, *(_figure(_of(records, v), "clean", metric) for v in victims), ""]]
    for surrogate in surrogates:
        mine = [record for record in records if record.surrogate == surrogate]
        others = [record for record in mine if _victim(record) != surrogate]
        cells = [_figure(_of(mine, victim), "adversarial", metric) for victim in victims]
        lines.append([surrogate, *cells, _figure(others, "adversarial", metric)])
    header = ["from \\ on", *victims, "others"]
    return tabulate(lines, header, tablefmt=style, disable_numparse=True, stralign="right")


def _of(records: Iterable[Record], victim: str) -> list[Record]:
    return [record for record in records if _victim(record) == victim]


def _figure(records: Sequence[Record], when: str, metric: str) -> str:
    return f"{100 * mean(record.mean(when, metric) for record in records):.1f}" if records else ""


def printed_report(
    figures: Sequence[Published], style: str = "markdown", metrics: Sequence[str] | None = None
) -> str:
    """Values as published, percent; "csv" and "json" have one row per value.

    A row is a victim, an attack and a budget; a cell holds the value and number of every source, in the order
    of the file. Raises BadInput for an unknown style.
    """
    wanted = [one for one in figures if metrics is None or one.metric in metrics]
    if style in ("csv", "json"):
        every = [asdict(one) for one in wanted]
        return to_csv(every) if style == "csv" else to_json(every)
    page = style_of(style)
    protocols = list(dict.fromkeys(one.protocol for one in wanted))
    tables = []
    for protocol in protocols:
        same = [one for one in wanted if one.protocol == protocol]
        columns = [metric for metric in KNOWN_METRICS if any(one.metric == metric for one in same)]
        rows: dict[tuple[str, str, str], list[Published]] = {}
        for one in same:
            rows.setdefault((one.victim, one.attack, one.budget), []).append(one)
        references = References()
        lines = [
            [
                *(page.escape(name) for name in (key[0], key[1] or "(clean)", key[2])),
                *(
                    page.escape(references.figures([one for one in found if one.metric == metric]))
                    for metric in columns
                ),
            ]
            for key, found in sorted(rows.items(), key=lambda item: item[0])
        ]
        header = ["victim", "attack", "budget", *(HEADINGS.get(metric, "ASR") for metric in columns)]
        sides = ["left"] * 3 + ["right"] * len(columns)
        about = f" ({NOT_IDS[protocol]})" if protocol in NOT_IDS else ""
        title = f"published, not measured here: {protocol}{about}; percent, budget empty where not stated"
        notes = references.notes()
        tables.append(page.table(header, lines, sides, title, ["published", protocol], notes))
    return page.join(tables)
