"""Transfer attacks: the matrix of surrogates and victims."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import mean

from vbench.records.record import Record
from vbench.reports.compare import labelled, victim_names
from vbench.reports.frame import flat
from vbench.reports.rows import CLEAN, HEADINGS, Setting, setting, weights_of
from vbench.reports.table import Column, Table, simple, write


def transfer_matrices(records: Sequence[Record], metric: str = "r1", style: str = "plain") -> str:
    """One matrix per attack and setting: ``metric`` in percent after the attack, mean over trials and seeds.

    Rows are the surrogates an attack was crafted on, columns the victims it was applied to; the first row is
    the victims' clean value, the last column the mean over victims other than the surrogate.
    """
    grouped: dict[tuple[Setting, str], list[Record]] = {}
    for record in records:
        if record.surrogate:
            grouped.setdefault((setting(record), record.label), []).append(record)
    return write([_matrix(where, same, metric) for (where, _), same in grouped.items()], style)


def _matrix(where: Setting, records: Sequence[Record], metric: str) -> Table:
    names = victim_names(records)
    victims = list(names.values())

    def figure(found: Iterable[Record], when: str) -> str:
        values = [record.mean(when, metric) for record in found]
        return f"{100 * mean(values):.1f}" if values else ""

    def by_victim(found: Sequence[Record], when: str) -> list[str]:
        return [figure((one for one in found if names[labelled(one)] == victim), when) for victim in victims]

    lines = [[CLEAN, *by_victim(records, "clean"), ""]]
    sources = defaultdict(list)
    for record in records:
        sources[record.surrogate, weights_of(record, "surrogate")].append(record)
    several = Counter(name for name, _ in sources)
    for (name, weights), mine in sources.items():
        others = figure((record for record in mine if not _on_itself(record)), "adversarial")
        shown = name if several[name] == 1 else f"{name}[weights {weights[:8]}]"
        lines.append([shown, *by_victim(mine, "adversarial"), others])
    return simple(
        f"{where.title}   {records[0].label}, {HEADINGS[metric]} after the attack, %",
        [Column(name, True) for name in ("from \\ on", *victims, "others")],
        lines,
        f"transfer {where.protocol} {where.threat} {records[0].label} {metric}",
        flat=lambda: flat(records),
    )


def _on_itself(record: Record) -> bool:
    """Whether an attack was crafted on the victim, or on an ensemble with it."""
    victim, source = record.config["victim"], record.config.get("surrogate") or {}
    options = source.get("options", {})
    members = options.get("members") or [{"name": source.get("name"), **options}]
    return {"name": victim["name"], **victim.get("options", {})} in members
