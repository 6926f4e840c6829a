"""Attacks against victims in one table of a single metric."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev

from vbench.core.errors import unknown_name
from vbench.records.record import Record
from vbench.reports.distinct import attack_marks, seeds_key, victim_key, victim_names
from vbench.reports.rows import CLEAN, HEADINGS, Setting, random_order, setting
from vbench.reports.table import Cell, Column, Table, simple, write


def comparison(
    records: Sequence[Record], metric: str = "r1", style: str = "markdown", chance: bool = False
) -> str:
    """One table per setting: ``metric`` after each attack, percent, mean ± sd over seeds; lowest in bold.

    The first row is the victims' clean value, with ``chance`` the second that of a random order. Records of
    different protocols, budgets, sides or data never share a table; attacks crafted on a surrogate have a
    separate one. "csv" and "json" have one row per cell, unrounded, in [0, 1]. Raises BadInput for an unknown
    metric or format.
    """
    if metric not in HEADINGS:
        raise unknown_name("metric", metric, HEADINGS)
    grouped: dict[tuple[Setting, str], list[Record]] = {}
    for record in records:
        grouped.setdefault((setting(record), record.surrogate), []).append(record)
    return write([_comparison(where, same, metric, chance) for (where, _), same in grouped.items()], style)


def _comparison(where: Setting, records: Sequence[Record], metric: str, chance: bool) -> Table:
    found: dict[tuple[str, str], list[float]] = {}
    before: dict[str, list[float]] = {}
    victims = victim_names(records)
    marks = attack_marks(records, lambda record: record.label, "victim")
    for record in records:
        victim = victims[victim_key(record)]
        place = record.label + marks[seeds_key(record, "victim")], victim
        found.setdefault(place, []).append(100 * record.mean("adversarial", metric))
        before.setdefault(victim, []).append(100 * record.mean("clean", metric))
    clean = {victim: mean(values) for victim, values in before.items()}
    spreads = {key: stdev(values) if len(values) > 1 else None for key, values in found.items()}
    lowest = {victim: min(mean(found[key]) for key in found if key[1] == victim) for victim in clean}
    surrogate, expected = records[0].surrogate, random_order(records) if chance else []

    def shown(attack: str, victim: str) -> Cell:
        if (attack, victim) not in found:
            return Cell("")
        value, sd = mean(found[attack, victim]), spreads[attack, victim]
        return Cell(f"{value:.1f}" + ("" if sd is None else f" ± {sd:.1f}"), strong=value == lowest[victim])

    def rows() -> list[dict[str, object]]:
        return [
            {
                "protocol": where.protocol,
                "synthetic": where.synthetic,
                "data": f"{where.data} {where.fingerprint}",
                "budget": where.threat,
                "trials": where.trials,
                "surrogate": surrogate,
                "metric": metric,
                "attack": attack,
                "victim": victim,
                "clean": clean[victim] / 100,
                "attacked": mean(values) / 100,
                **({"chance": expected[0].after[metric] / 100 if expected else None} if chance else {}),
                "sd": None if (sd := spreads[attack, victim]) is None else sd / 100,
                "seeds": len(values),
            }
            for (attack, victim), values in found.items()
        ]

    lines: list[list[object]] = [[CLEAN, *(f"{value:.1f}" for value in clean.values())]]
    lines += [[row.attack, *(f"{row.after[metric]:.1f}" for _ in clean)] for row in expected]
    lines += [
        [one, *(shown(one, victim) for victim in clean)] for one in dict.fromkeys(key[0] for key in found)
    ]
    crafted = f" crafted on {surrogate}" if surrogate else ""
    return simple(
        f"{where.title}; {HEADINGS[metric]} after the attack{crafted}, %",
        ["attack", *(Column(name, True) for name in clean)],
        lines,
        " ".join(["compare", where.protocol, where.threat, surrogate, metric]),
        flat=rows,
        starred=False,
    )
