"""What each full table holds, before any style writes it: its rows, what they share, best, p and notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vbench.errors import unknown_name
from vbench.record import Record
from vbench.reports.best import best, interval
from vbench.reports.published import Beside
from vbench.reports.rows import HEADINGS, Row, Setting, grouped, rows_of, victim_key
from vbench.reports.significance import heading, p_values, reference, tested_metric
from vbench.store import older_note

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

    @property
    def heading(self) -> str:
        """Heading of the column."""
        return heading(self.label, self.metric)


@dataclass(frozen=True)
class Sheet:
    """One table. ``name`` is what ``--group`` says it is about, empty without it.

    ``shared`` are the facts of the setting that all rows share, for the title; ``differing`` the names of
    those that they do not, each a column (:func:`facts`). ``bold``: metric -> positions of the best rows.
    ``p`` and ``published`` have an entry a row; ``published`` is empty where nothing is printed.
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
        """Whether its data are drawn; synthetic and real data never share a table."""
        return self.entries[0][0].synthetic

    @property
    def about(self) -> list[str]:
        """What the title says before the legend."""
        return [*([self.name] if self.name else []), *self.shared.values()]


def sheets(
    records: Sequence[Record], metrics: Sequence[str], group: str | None = None, versus: Versus | None = None
) -> list[Sheet]:
    """One table a setting (data, protocol, budget, side, trials), or one a victim, attack or data set.

    Raises BadInput for an unknown group.
    """
    tables = split(records, group)
    twins = _twins([where for _, entries in tables for where, _ in entries])
    return [_sheet(name, entries, metrics, versus, twins) for name, entries in tables]


def versus_of(records: Sequence[Record], attack: str | None, metrics: Sequence[str]) -> Versus | None:
    """What ``--versus`` means; raises BadInput for an attack that is not there or not one."""
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
    """What is said of a setting, in the title or in columns."""
    return {
        "protocol": where.protocol,
        "trials": f"{where.trials} trial{'s' if where.trials != 1 else ''}",
        "budget": where.threat,
        "data": f"{where.data} {where.fingerprint[:8]}",
    }


def _key(where: Setting, row: Row, group: str | None) -> tuple[object, ...]:
    """What a table is about: its name first, then what must not differ within it."""
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
    beside = Beside(metrics)
    printed = [beside.cell(row.records[0]) if row.records else "" for _, row in entries]
    notes = [_BOLD] if any(bold.values()) else []
    if versus:
        notes.append(_versus_note(entries, p, versus))
    notes += beside.notes()
    records = [record for _, row in entries for record in row.records]
    notes += [*_changed_note(records), *older_note(records)]
    legend = _legend(entries, metrics)
    return Sheet(name, entries, shared, differing, bold, p, printed if any(printed) else (), legend, notes)


def _facts(settings: Sequence[Setting], twins: set[str]) -> tuple[dict[str, str], list[str]]:
    """What all rows share, and the names of what they do not; data is said where its protocol is a twin's."""
    found = [facts(where) for where in settings]
    said = [name for name in found[0] if name != "data" or any(w.protocol in twins for w in settings)]
    differing = [name for name in said if len({fact[name] for fact in found}) > 1]
    return {name: found[0][name] for name in said if name not in differing}, differing


def _twins(settings: Sequence[Setting]) -> set[str]:
    """Protocols that stand here for more than one set of images."""
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
    """Which records are not what a run wrote: their figures are shown as they stand, and not in silence."""
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
