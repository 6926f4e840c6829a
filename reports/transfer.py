"""Surrogate x victim matrices of transfer attacks, from records alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean

from tabulate import tabulate

from vbench.record import Record
from vbench.reports.rows import HEADINGS, Setting, setting

_CLEAN = "(clean)"


def transfer_matrices(records: Sequence[Record], metric: str = "r1", style: str = "simple") -> str:
    """One matrix an attack and setting: ``metric`` in percent after the attack, mean over trials and seeds.

    Rows are the surrogates an attack was crafted on, columns the victims that were shown the result; the
    first row is the victims' clean figure, the last column the mean over victims other than the surrogate.
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


def _victim(record: Record) -> str:
    return record.victim_label or record.config["victim"]["name"]


def _of(records: Iterable[Record], victim: str) -> list[Record]:
    return [record for record in records if _victim(record) == victim]


def _figure(records: Sequence[Record], when: str, metric: str) -> str:
    return f"{100 * mean(record.mean(when, metric) for record in records):.1f}" if records else ""
