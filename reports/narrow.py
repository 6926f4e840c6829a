"""Tables that fit a column of a two-column paper: what is left of each model after each attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vbench.records.record import Record
from vbench.reports.distinct import victim_key
from vbench.reports.printed import printed, protocol_words, short_names
from vbench.reports.rows import HEADINGS, RANDOM, Row, Setting
from vbench.reports.table import Cell, Column, Group, Table
from vbench.reports.tables import Sheet, facts, sheets, shown_p

DEFAULT_METRICS = ("r1", "map")

_BOLD = "Bold: lowest among attacks of equal knowledge, and ties within the interval over queries."


def narrow(
    records: Sequence[Record],
    metrics: Sequence[str] | None = None,
    group: str | None = None,
    versus: str | None = None,
    labels: Mapping[str, str] | None = None,
    chance: bool = False,
) -> list[Table]:
    """Each model's clean result, once, then its result after each attack; printed names, percent.

    ``labels``: names to print instead, by label or name of a model or attack. ``metrics`` are Rank-1 and mAP
    unless given; ``group``, ``versus`` and ``chance`` as in :func:`vbench.reports.tables.report_of`. Controls
    and members of batteries are left out. Raises BadInput as that function does, and for a name of ``labels``
    that no record has.
    """
    found = sheets(records, DEFAULT_METRICS if metrics is None else metrics, group, versus, chance)
    models = [row.victim for sheet in found for _, row in sheet.entries if row.records]
    short, notes = short_names([*models, *(record.label for record in records)], labels)
    return [_narrow(sheet, short, notes) for sheet in found]


def _narrow(sheet: Sheet, short: Mapping[str, str], notes: Mapping[str, str]) -> Table:
    versus = sheet.versus
    columns = [Column(name) for name in ("Victim", "Attack", *sheet.differing)]
    columns += [Column(HEADINGS.get(metric, "ASR"), True) for metric in sheet.metrics]
    columns += [Column(f"p vs {short[versus.label]}")] if versus else []
    found: dict[tuple[Setting, tuple[str, ...]], tuple[list[Cell], list[list[Cell]]]] = {}
    used: dict[str, None] = {}
    orders: list[list[Cell]] = []
    for index, (where, row) in enumerate(sheet.entries):
        if row.control:
            continue
        differing = [Cell(facts(where)[fact]) for fact in sheet.differing]
        # Of an order that no attack decides: clean, or random.
        plain = [Cell("" if metric == "asr" else f"{row.before[metric]:.1f}") for metric in sheet.metrics]
        plain = [*differing, *plain, *([Cell("")] if versus else [])]
        if row.attack == RANDOM:
            orders.append([Cell(""), Cell(RANDOM), *plain])
            continue
        record = row.records[0]
        first = [Cell(short[row.victim]), Cell("clean"), *plain]
        below = found.setdefault((where, victim_key(record)), (first, []))[1]
        source = f" from {printed(record.surrogate)}" if record.surrogate else ""
        name = short[record.label] + source + row.attack[len(record.label) :]
        values = [_value(row, metric, index in sheet.bold[metric]) for metric in sheet.metrics]
        more = [Cell(shown_p(sheet.p[index]))] if versus else []
        below.append([Cell(""), Cell(name), *differing, *values, *more])
        used |= dict.fromkeys((row.victim, record.label))
    about = [protocol_words(text) if fact == "protocol" else text for fact, text in sheet.shared.items()]
    seeds = max(row.seeds for _, row in sheet.entries)
    legend = "percent after the attack" + (f", mean ± sd of up to {seeds} seeds" if seeds > 1 else "")
    bold = [_BOLD] if any(sheet.bold.values()) else []
    settings = "; ".join(notes[label] for label in used if label in notes)
    return Table(
        " ".join(sheet.about),
        "; ".join([*([sheet.name] if sheet.name else []), *about]),
        columns,
        [*(Group("", one) for one in orders), *(Group("", *rows) for rows in found.values())],
        ("SYNTHETIC",) if sheet.synthetic else (),
        legend,
        [*bold, *([f"{settings}."] if settings else []), *sheet.remarks],
        narrow=True,
    )


def _value(row: Row, metric: str, bold: bool) -> Cell:
    if metric == "asr":
        return Cell("" if row.asr is None else f"{row.asr:.1f}", strong=bold)
    spread = f" ± {row.spread[metric]:.1f}" if row.spread else ""
    return Cell(f"{row.after[metric]:.1f}{spread}", strong=bold)
