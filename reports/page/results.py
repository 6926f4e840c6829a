"""Result tables, summary and row details of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from vbench.core.text import first_of
from vbench.records.command import Command, command
from vbench.records.record import Record
from vbench.reports.distinct import victim_key
from vbench.reports.printed import printed, protocol_words
from vbench.reports.rows import HEADINGS, Row, Setting, change
from vbench.reports.table import Cell, Column, Group, Table
from vbench.reports.tables import Entry, Sheet, facts, shown_p

#: Metrics that have columns unless others are asked for; an opened row has the others.
METRICS = ("r1", "map", "asr")

_CAPTION = "Results under the strongest attacks"

_LEGEND = (
    "Strongest: the lowest Rank-1 after the attack among rows of the same knowledge. Ties are in bold "
    "in the tables of results."
)


def heading(records: Sequence[Record]) -> str:
    """The title of the page, which names the models and the data."""
    victims = dict.fromkeys(printed(record.victim_label) for record in records)
    protocols = dict.fromkeys(protocol_words(record.protocol) for record in records)
    models = ", ".join(victims) if len(victims) < 4 else f"{len(victims)} models"
    data = "; ".join(protocols)
    if len(protocols) > 1:
        data = ", ".join(dict.fromkeys(name.partition(", ")[0] for name in protocols))
        data += f" ({len(protocols)} protocols)"
    return f"Adversarial robustness of {models} on {data}"


def counts(records: Sequence[Record], entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """(name, number or values) for the summary."""
    rows = [row for _, row in entries if row.records]
    days = sorted(record.created[:10] for record in records if record.created)
    return [
        ("runs", str(len(records))),
        ("rows", f"{len(rows)} (runs that differ only in their seed are one row)"),
        ("victims", _listed(row.victim for row in rows)),
        ("attacks", _listed(str(row.records[0].config["attack"]["name"]) for row in rows)),
        ("protocols", _listed(record.protocol for record in records)),
        ("seeds", _listed(str(record.config.get("seed")) for record in records)),
        *([("made", days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}")] if days else []),
    ]


def strongest(entries: Sequence[Entry]) -> Table:
    """A row for each victim in each setting and kind of attacker: clean, and after the strongest attack."""
    found: dict[tuple[object, ...], list[Entry]] = {}
    for where, row in entries:
        if row.records:
            kind = (where, victim_key(row.records[0]), row.knowledge, row.records[0].level)
            found.setdefault(kind, []).append((where, row))
    settings = list(dict.fromkeys(where for where, _ in entries))
    differing = [n for n, one in enumerate(zip(*map(_where, settings), strict=True)) if len(set(one)) > 1]
    columns = [Column(("data", "protocol", "budget")[n]) for n in differing]
    columns += [Column("victim"), Column("knowledge"), Column("strongest attack")]
    columns += [Column("of", True, "Number of compared attacks")]
    columns += [Column(HEADINGS[metric], True, "Before → after, percent") for metric in METRICS[:2]]
    groups = [_strongest(rivals, differing) for rivals in found.values()]
    shared = [one.text for where in settings[:1] for n, one in enumerate(_where(where)) if n not in differing]
    return Table("strongest", "; ".join([_CAPTION, *shared]), columns, groups, legend=_LEGEND, filtered=False)


def _where(where: Setting) -> tuple[Cell, Cell, Cell]:
    said = facts(where)
    return (
        Cell("SYNTHETIC" if where.synthetic else "real", small=said["data"]),
        Cell(where.protocol, small=said["trials"]),
        Cell(where.threat),
    )


def _strongest(rivals: Sequence[Entry], differing: Sequence[int]) -> Group:
    where, row = min(rivals, key=lambda entry: entry[1].after["r1"])
    cells = [_where(where)[n] for n in differing]
    cells += [
        Cell(row.victim),
        Cell(row.knowledge),
        Cell(row.attack, small=f"{row.seeds} seeds" if row.seeds > 1 else ""),
        Cell(str(len(rivals)), len(rivals)),
    ]
    cells += [_figure(row, metric) for metric in METRICS[:2]]
    return Group(f"{row.attack} on {row.victim}", cells)


def _figure(row: Row, metric: str) -> Cell:
    return Cell(f"{row.after[metric]:.1f}", row.after[metric], lead=f"{row.before[metric]:.1f} → ")


def _listed(names) -> str:
    found = list(dict.fromkeys(names))
    return f"{len(found)}: {first_of(found, 12)}"


@dataclass(frozen=True)
class Details:
    """``facts``: (term, text). ``links``: (name in the query explorer, text)."""

    command: Command
    facts: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    links: Sequence[tuple[str, str]]


def details(row: Row, queries: Mapping[str, str]) -> Details:
    """The details of a row with records."""
    records = row.records
    first = records[0]
    others = [metric for metric in HEADINGS if metric not in METRICS]
    facts = {
        "other metrics": ", ".join(
            f"{HEADINGS[metric]} {row.before[metric]:.1f} → {row.after[metric]:.1f}" for metric in others
        ),
        "settings": _settings(first.config.get("attack", {}).get("settings")),
        "victim": _victim(first),
        "change made": _size(records),
        "cost": _cost(records),
        "queries": _queries(first),
        "records": ", ".join(_identity(record, len(records) > 1) for record in records),
        "left out": "; ".join(f"{name}: {reason}" for name, reason in first.left_out.items()),
    }
    warnings = list(dict.fromkeys(warning for record in records for warning in record.warnings))
    links = [
        (queries[record.id], f"seed {record.config.get('seed')}" if len(records) > 1 else "show")
        for record in records
        if record.id in queries
    ]
    return Details(command(records), [pair for pair in facts.items() if pair[1]], warnings, links)


def _settings(settings: Mapping[str, object] | None) -> str:
    return ", ".join(f"{name}={_plain(value)}" for name, value in (settings or {}).items())


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "+".join(str(part) for part in value)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _victim(record: Record) -> str:
    card = record.config["victim"]
    options = {name: value for name, value in (card.get("options") or {}).items() if name != "input_size"}
    size = (card.get("options") or {}).get("input_size")
    parts = [f"weights {card.get('weights')}"]
    parts += [f"images {size[0]}x{size[1]}"] if isinstance(size, list) and len(size) == 2 else []
    return ", ".join([*parts, *([_settings(options)] if options else [])])


def _size(records: Sequence[Record]) -> str:
    def of(name: str, text: str, scale: int = 1) -> str:
        found = [record.size[name] for record in records if name in record.size]
        return text.format(scale * mean(found)) if found else ""

    largest = [record.size["linf_levels"] for record in records if "linf_levels" in record.size]
    said = [
        f"{max(largest):.0f} levels at most" if largest else "",
        of("changed_share", "{:.1f} % of values", 100),
        of("l2", "L2 {:.2f}"),
        of("psnr_db", "PSNR {:.1f} dB"),
        of("ssim", "SSIM {:.3f}"),
    ]
    return ", ".join(text for text in said if text)


def _cost(records: Sequence[Record]) -> str:
    said = {
        "fit_seconds": "{:.1f} s to learn",
        "attack_seconds": "{:.1f} s to attack",
        "images_per_second": "{:.0f} images per second",
    }
    if records[0].universal:
        # Adding a learnt perturbation takes no measurable time.
        del said["images_per_second"]
    texts = []
    for name, text in said.items():
        found = [record.cost[name] for record in records if name in record.cost]
        if found:
            texts.append(text.format(mean(found)))
    peak = max((record.cost.get("peak_memory", 0) for record in records), default=0)
    return ", ".join([*texts, *([f"{peak / 2**20:.0f} MiB at most"] if peak else [])])


def _queries(record: Record) -> str:
    counts = sorted({(trial.queries, trial.skipped) for trial in record.clean})
    each = ", ".join(f"{queries} ({skipped} without a match)" for queries, skipped in counts[:3])
    return f"{each}{' ...' if len(counts) > 3 else ''} in each of {len(record.clean)} trials"


def _identity(record: Record, several: bool) -> str:
    seed = f"seed {record.config.get('seed')} " if several else ""
    return f"{seed}{record.id}" + (f" of {record.created}" if record.created and not several else "")


#: The filters of the page: facet of a row -> label.
FILTERS = {
    "victim": "Victim",
    "attack": "Attack",
    "knowledge": "Knowledge",
    "protocol": "Protocol",
    "budget": "Budget",
    "data": "Data",
    "level": "Level",
}

_EVALUATIONS = "Per fit, or per image; the column sorts by the total of a run"

_SECONDS = "Fit and attack together, on the machine of the run"


def result_tables(found: Sequence[Sheet], queries: Mapping[str, str]) -> list[Table]:
    """One table per sheet; ``queries``: record id -> its name in the query explorer, for links to it."""
    return [_table(f"table-{number}", sheet, queries) for number, sheet in enumerate(found, 1)]


def _table(anchor: str, sheet: Sheet, queries: Mapping[str, str]) -> Table:
    groups: list[Group] = []
    below: list[list[Cell]] = []
    for index, (where, row) in enumerate(sheet.entries):
        cells = _cells(index, where, row, sheet)
        if row.records:
            below = []
            groups.append(Group(_name(row), cells, below, _facets(where, row), details(row, queries)))
        elif not row.control:
            groups.append(Group(row.attack, cells))
        else:
            below.append(cells)
    badges = ["SYNTHETIC"] if sheet.synthetic else []
    return Table(anchor, "; ".join(sheet.about), _columns(sheet), groups, badges, sheet.legend, sheet.notes)


def _columns(sheet: Sheet) -> list[Column]:
    columns = [
        Column("attack"),
        Column("victim"),
        Column("knowledge", hint="What the attacker knows", extra=True),
    ]
    columns += [Column(fact) for fact in sheet.differing]
    for metric in sheet.metrics:
        if metric == "asr":
            columns.append(
                Column("ASR", True, "Share of clean Rank-1 queries that lose it, percent", extra=True)
            )
        else:
            extra = metric not in METRICS
            columns.append(
                Column(HEADINGS[metric], True, "Before → after, percent; sorts by after", extra=extra)
            )
            columns.append(
                Column(f"{HEADINGS[metric]} drop", True, "In points; in brackets relative", extra=True)
            )
    columns += [Column("gradient evaluations", True, _EVALUATIONS, extra=True)]
    columns += [Column("s", True, _SECONDS, extra=True)]
    if sheet.versus:
        columns.append(Column(sheet.versus.heading, True, "Corrected for the rows of this table"))
    published = (
        [Column("published", hint="As its sources print it", prose=True, extra=True)]
        if sheet.published
        else []
    )
    return [*columns, *published]


def _cells(index: int, where: Setting, row: Row, sheet: Sheet) -> list[Cell]:
    attack = f"· {row.attack}" if row.control else row.attack
    seeds = f"{row.seeds} seeds" if row.seeds > 1 and not row.control else ""
    cells = [Cell(attack, small=seeds), Cell(row.victim), Cell(row.knowledge)]
    cells += [Cell(facts(where)[fact]) for fact in sheet.differing]
    for metric in sheet.metrics:
        cells += _figures(row, metric, index in sheet.bold[metric])
    costs = [record.cost for record in row.records]
    each = [cost.get("attack_evaluations", cost.get("evaluations_per_image", 0)) for cost in costs]
    spent = [cost.get("fit_evaluations", 0) + more for cost, more in zip(costs, each, strict=True)]
    priced = bool(row.evaluations)
    first, *more = row.evaluations.split(" + ")
    cells.append(Cell(first, mean(spent) if spent else None, "+ " + " + ".join(more) if more else ""))
    cells.append(Cell(f"{row.seconds:.1f}", row.seconds) if priced else Cell(""))
    if sheet.versus:
        found = sheet.p[index]
        cells.append(Cell(shown_p(found), found.p if found else None))
    return [*cells, Cell(sheet.published[index])] if sheet.published else cells


def _figures(row: Row, metric: str, bold: bool) -> list[Cell]:
    if metric == "asr":
        return [Cell("") if row.asr is None else Cell(f"{row.asr:.1f}", row.asr, strong=bold)]
    found = change(row, metric)
    drop = f"{found.drop} {found.relative}".strip()
    return [
        Cell(found.attacked, row.after[metric], found.spread, bold, lead=f"{found.clean} → "),
        Cell(drop, row.before[metric] - row.after[metric], found.interval),
    ]


def _name(row: Row) -> str:
    return f"{row.attack} on {row.victim}"


def _facets(where: Setting, row: Row) -> dict[str, str]:
    first = row.records[0]
    return {
        "victim": row.victim,
        "attack": str(first.config["attack"]["name"]),
        "knowledge": row.knowledge,
        "protocol": where.protocol,
        "budget": where.threat,
        "data": "synthetic" if where.synthetic else "real",
        "level": first.level,
    }
