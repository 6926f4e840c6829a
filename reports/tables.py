"""Full and short tables of records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

from vbench.core.errors import unknown_name
from vbench.core.text import count_of, first_of
from vbench.records.record import Record
from vbench.records.store import older_note
from vbench.reports.distinct import attack_marks, seeds_key, victim_key, victim_names
from vbench.reports.frame import flat
from vbench.reports.published import PublishedCells
from vbench.reports.rows import (
    CLEAN,
    HEADINGS,
    Comparison,
    Row,
    Setting,
    best,
    chance_columns,
    change,
    grouped,
    interval,
    p_values,
    random_order,
    reference,
    rows_of,
    tested_metric,
)
from vbench.reports.select import DEFAULT_METRICS
from vbench.reports.table import Cell, Column, Group, Table, write

if TYPE_CHECKING:
    from vbench.records.record import Failure

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
        return f"p vs {self.label} ({HEADINGS[self.metric]})"


@dataclass(frozen=True)
class Sheet:
    """One table. ``name`` is the value of ``--group``, empty without it.

    ``shared`` are the facts of the setting that all rows share, for the title; ``differing`` the names of the
    others, each a column (:func:`facts`). ``bold``: metric -> positions of the best rows. ``p`` and
    ``published`` have one entry per row; ``published`` is empty if no source has a value. ``remarks`` are the
    notes on p and on the records, ``sources`` those on published values.
    """

    name: str
    entries: Sequence[Entry]
    shared: dict[str, str]
    differing: Sequence[str]
    bold: dict[str, set[int]]
    versus: Versus | None
    p: Sequence[Comparison | None]
    published: Sequence[str]
    legend: str
    remarks: Sequence[str]
    sources: Sequence[str]

    @property
    def notes(self) -> list[str]:
        """The lines below the full table."""
        bold = [_BOLD] if any(self.bold.values()) else []
        return [*bold, *self.remarks, *self.sources]

    @property
    def metrics(self) -> list[str]:
        """The metrics that have columns."""
        return list(self.bold)

    @property
    def synthetic(self) -> bool:
        """Whether its data are synthetic; synthetic and real data never share a table."""
        return self.entries[0][0].synthetic

    @property
    def about(self) -> list[str]:
        """The parts of the title before the legend."""
        return [*([self.name] if self.name else []), *self.shared.values()]


def sheets(
    records: Sequence[Record],
    metrics: Sequence[str],
    group: str | None = None,
    attack: str | None = None,
    chance: bool = False,
) -> list[Sheet]:
    """One table per setting (data, protocol, budget, side, trials), or per victim, attack or data set.

    ``attack``: the reference of a column of p-values; ``chance``: add the rows of a random order. Raises
    BadInput for an unknown group, and for an attack without records or an ambiguous name.
    """
    versus = Versus(reference(records, attack), tested_metric(metrics)) if attack else None
    tables = split(records, group, chance)
    twins = _twins([where for _, entries in tables for where, _ in entries])
    return [_sheet(name, entries, metrics, versus, twins) for name, entries in tables]


def split(
    records: Sequence[Record], group: str | None = None, chance: bool = False
) -> list[tuple[str, list[Entry]]]:
    """The rows of each table with its name; raises BadInput for an unknown group.

    With ``chance`` the row of a random order precedes those of its setting.
    """
    if group is not None and group not in GROUPS:
        raise unknown_name("group", group, GROUPS)
    found: dict[tuple[object, ...], list[Entry]] = {}
    # Over all settings, since rows of several may share a table.
    victims_on: dict[object, list[Record]] = {}
    for record in records:
        victims_on.setdefault(_learnt_on(record), []).append(record)
    names = {data: victim_names(same) for data, same in victims_on.items()}
    for where, same in grouped(records).items():
        victims = list(dict.fromkeys(victim_key(one[0]) for one in same))
        same.sort(key=lambda one: victims.index(victim_key(one[0])))
        every = [record for one in same for record in one]
        expected = random_order(every) if chance else []
        marks = attack_marks(every, lambda one: (victim_key(one), one.label, one.surrogate))
        for one in same:
            first, *below = rows_of(one)
            attack = first.attack + marks[seeds_key(one[0])]
            victim = names[_learnt_on(one[0])][victim_key(one[0])]
            rows = [replace(first, victim=victim, attack=attack), *below]
            entries = found.setdefault(_key(where, rows[0], group), [])
            if all(before != where for before, _ in entries):
                entries += [(where, row) for row in expected]
            entries += [(where, row) for row in rows]
    return [(str(key[0]) if group else "", entries) for key, entries in found.items()]


def _learnt_on(record: Record) -> object:
    """What a victim is trained for: those for other data always differ, and need no mark."""
    return record.synthetic, record.config["dataset"]["name"], record.config["dataset"].get("split")


def facts(where: Setting) -> dict[str, str]:
    """The facts of a setting for the title or columns."""
    return {
        "protocol": where.protocol,
        "trials": count_of(where.trials, "trial"),
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
    records = [record for _, row in entries for record in row.records]
    remarks = [_versus_note(entries, p, versus)] if versus else []
    remarks += [*_changed_note(records), *older_note(records)]
    legend, sources = _legend(entries, metrics), published.notes()
    cells = printed if any(printed) else ()
    return Sheet(name, entries, shared, differing, bold, versus, p, cells, legend, remarks, sources)


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
    text = f"before → after, percent{_over_seeds(entries)}; drop in points (relative)"
    if any(interval(row, metric) for _, row in entries for metric in metrics):
        text += ", [95 % paired bootstrap interval over queries]"
    return text


def _over_seeds(entries: Sequence[Entry]) -> str:
    seeds = max(row.seeds for _, row in entries)
    return f", mean ± sd over up to {seeds} seeds" if seeds > 1 else ""


def _changed_note(records: Sequence[Record]) -> list[str]:
    """A warning that lists records whose content was changed; their numbers are shown unchanged."""
    found = [f"{record.id} ({reason})" for record in records if (reason := record.fault()) is not None]
    return [f"WARNING, not what a run wrote: {first_of(found, 5)}"] if found else []


def _versus_note(entries: Sequence[Entry], values: Sequence[Comparison | None], versus: Versus) -> str:
    note = (
        f"p: two-sided paired permutation test over queries against {versus.label} on the same victim, by "
        f"{HEADINGS[versus.metric]}, Holm's correction over this table; it says nothing of the seed. "
        f"Stronger, weaker: than {versus.label}."
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
    chance: bool = False,
) -> str:
    """Full tables of records, as text in "markdown", "latex" or "plain"; or flat rows, "csv" and "json".

    One table per setting (data, protocol, budget, side, trials), or with ``group`` per victim, attack or data
    set. Facts that all rows of a table share are in its title; protocol, budget, trials and data that differ
    within it are columns. Synthetic and real data never share a table. Values are percent. ``versus`` adds p
    against that attack (:mod:`vbench.reports.rows`), ``chance`` the row of a random order. There is one flat
    row per record, in [0, 1], with all metrics unless some are named; ``group`` orders them.

    Raises BadInput for an unknown style, group or attack to compare with.
    """
    return write(full(records, metrics, group, versus, chance), style, wide=True)


def full(
    records: Sequence[Record],
    metrics: Sequence[str] | None = None,
    group: str | None = None,
    versus: str | None = None,
    chance: bool = False,
) -> list[Table]:
    """The tables of :func:`report_of`."""
    shown = DEFAULT_METRICS if metrics is None else metrics
    return [_full(sheet, metrics, chance) for sheet in sheets(records, shown, group, versus, chance)]


def _full(sheet: Sheet, asked: Sequence[str] | None, chance: bool) -> Table:
    metrics, versus = sheet.metrics, sheet.versus
    columns = [Column(name) for name in ("victim", "attack", "knowledge", *sheet.differing)]
    for metric in metrics:
        heads = ["ASR"] if metric == "asr" else [HEADINGS[metric], f"{HEADINGS[metric]} drop"]
        columns += [Column(head, True) for head in heads]
    columns += [Column("gradient evaluations", True), Column("s", True)]
    columns += [Column(versus.heading, True)] if versus else []
    columns += [Column("published")] if sheet.published else []
    lines = []
    for index, (where, row) in enumerate(sheet.entries):
        line: list[object] = [*_labels(row), *(facts(where)[fact] for fact in sheet.differing)]
        for metric in metrics:
            line += _metric_cells(row, metric, index in sheet.bold[metric])
        line += [row.evaluations, f"{row.seconds:.1f}"] if row.evaluations else ["", ""]
        line += [shown_p(sheet.p[index])] if versus else []
        line += [sheet.published[index]] if sheet.published else []
        lines.append((row, line))

    def rows() -> list[dict[str, object]]:
        found = []
        for (_, row), p in zip(sheet.entries, sheet.p, strict=True):
            value = p.p if p else None
            more = chance_columns(row.records) if chance else {}
            more |= {one.id: {**more.get(one.id, {}), versus.heading: value} for one in row.records if versus}
            found += flat(row.records, asked, more)
        return found

    about = "; ".join(sheet.about)
    return Table(
        " ".join(sheet.about),
        about,
        columns,
        _groups(lines),
        ("SYNTHETIC",) if sheet.synthetic else (),
        sheet.legend,
        sheet.notes,
        flat=rows,
    )


def _labels(row: Row) -> list[str]:
    return [row.victim, f"  · {row.attack}" if row.control else row.attack, row.knowledge]


def _groups(lines: Sequence[tuple[Row, Sequence[object]]]) -> list[Group]:
    """A group per row, with its controls below it."""
    found: list[tuple[str, list[Cell], list[list[Cell]]]] = []
    for row, line in lines:
        cells = [one if isinstance(one, Cell) else Cell(str(one)) for one in line]
        if row.control and found:
            found[-1][2].append(cells)
        else:
            found.append((row.attack, cells, []))
    return [Group(*one) for one in found]


def _metric_cells(row: Row, metric: str, bold: bool) -> list[Cell]:
    if metric == "asr":
        return [Cell("") if row.asr is None else Cell(f"{row.asr:.1f}", strong=bold)]
    found = change(row, metric)
    return [
        Cell(_joined(found.attacked, found.spread), strong=bold, lead=f"{found.clean} → "),
        Cell(_joined(found.drop, found.interval, found.relative)),
    ]


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def shown_p(found: Comparison | None) -> str:
    """A p-value as text for tables, with whether the row is stronger than the reference."""
    if found is None:
        return ""
    way = "stronger" if found.difference < 0 else "weaker" if found.difference > 0 else "equal"
    return f"{'<0.001' if found.p < 0.001 else f'{found.p:.3f}'} {way}"


def report(
    records: Sequence[Record],
    style: str = "markdown",
    lost: Sequence[Failure] = (),
    metrics: Sequence[str] | None = None,
    group: str | None = None,
    versus: str | None = None,
    chance: bool = False,
) -> str:
    """Short tables of records: each victim's clean row, then what each attack leaves of it.

    Values are percent, mean over trials and seeds, with the standard deviation over several seeds; the other
    arguments are those of :func:`report_of`. "csv" and "json" have one row per record, unrounded. ``lost``
    runs are listed below a plain or an HTML table. Raises BadInput for an unknown format.
    """
    if style in ("csv", "json"):
        more = chance_columns(records) if chance else None
        return write([Table("", "", (), (), flat=lambda: flat(records, more=more))], style)
    shown = DEFAULT_METRICS if metrics is None else metrics
    text = write([_short(sheet) for sheet in sheets(records, shown, group, versus, chance)], style)
    if style == "html":
        return (text or "<div>no record</div>") + "".join(
            f"<div>lost: {escape(str(one))}</div>" for one in lost
        )
    if lost and style == "plain":
        text = "\n\n".join(filter(None, [text, "\n".join(["lost:", *(f"  {one}" for one in lost)])]))
    return text


#: The columns that a narrow terminal leaves out, the last one first.
_SPARE = ("asr", "r20", "r5", "gradients", "r10", "minp", "s")


def _spare(name: str) -> int:
    return _SPARE.index(name) + 1 if name in _SPARE else 0


def _short(sheet: Sheet) -> Table:
    # Otherwise the column of gradients says as much: an image, or a fit.
    every = [record for _, row in sheet.entries for record in row.records]
    known = any(record.surrogate or record.members for record in every)
    names = ("victim", "attack", *(["knowledge"] if known else []), *sheet.differing)
    columns = [Column(name) for name in names]
    columns += [Column(HEADINGS.get(metric, "ASR"), True, spare=_spare(metric)) for metric in sheet.metrics]
    columns += [Column(name, True, spare=_spare(name)) for name in ("gradients", "s")]
    columns += [Column(sheet.versus.heading, True)] if sheet.versus else []
    lines: list[tuple[Row, list[str]]] = []
    shown: tuple[object, ...] = ()
    for (where, row), p in zip(sheet.entries, sheet.p, strict=True):
        told = [facts(where)[fact] for fact in sheet.differing]
        before = [f"{row.before[metric]:.1f}" if metric != "asr" else "" for metric in sheet.metrics]
        clean = (where, victim_key(row.records[0]), before) if row.records else shown
        if clean != shown:
            lines.append((row, [row.victim, CLEAN, *([""] if known else []), *told, *before]))
            shown = clean
        cells = ["", _labels(row)[1], *([row.knowledge] if known else []), *told]
        for metric in sheet.metrics:
            found = change(row, metric) if metric != "asr" else None
            asr = "" if row.asr is None else f"{row.asr:.1f}"
            cells.append(_joined(found.attacked, found.spread) if found else asr)
        cells += [row.evaluations, f"{row.seconds:.1f}"] if row.evaluations else ["", ""]
        cells += [shown_p(p)] if sheet.versus else []
        lines.append((row, cells))
    padded = [(row, cells + [""] * (len(columns) - len(cells))) for row, cells in lines]
    return Table(
        " ".join(sheet.about),
        "; ".join(sheet.about),
        columns,
        _groups(padded),
        ("SYNTHETIC",) if sheet.synthetic else (),
        f"percent{_over_seeds(sheet.entries)}",
        sheet.remarks,
    )
