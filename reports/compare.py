"""Attacks against victims in one table: a row an attack, a column a victim, from records alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from tabulate import tabulate

from vbench.errors import unknown_name
from vbench.record import Record
from vbench.reports.rows import HEADINGS, Setting, setting
from vbench.reports.style import style_of

_STYLES = {"markdown": "pipe", "plain": "simple"}


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
    """One table a setting: ``metric`` after each attack, percent, mean ± sd over seeds; lowest in bold.

    The first row is the victims' clean figure. Records of different protocols, budgets, sides or data never
    share a table; attacks crafted on a surrogate have one of their own. Raises BadInput for an unknown metric
    or format (markdown and plain are known).
    """
    if metric not in HEADINGS:
        raise unknown_name("metric", metric, HEADINGS)
    if style not in _STYLES:
        raise unknown_name("format of a comparison", style, _STYLES)
    grouped: dict[tuple[Setting, str], list[Record]] = {}
    for record in records:
        grouped.setdefault((setting(record), record.surrogate), []).append(record)
    return "\n\n".join(
        f"{_title(where, surrogate, metric, style)}\n\n{_table(same, metric, style)}"
        for (where, surrogate), same in grouped.items()
    )


def _title(where: Setting, surrogate: str, metric: str, style: str) -> str:
    crafted = f" crafted on {surrogate}" if surrogate else ""
    title = _escape(f"{where.title}; {HEADINGS[metric]} after the attack{crafted}, %", style)
    return f"**{title}**" if style == "markdown" else title


def _table(records: Sequence[Record], metric: str, style: str) -> str:
    found = cells(records, metric)
    attacks = list(dict.fromkeys(attack for attack, _ in found))
    victims = list(dict.fromkeys(victim for _, victim in found))
    lowest = {
        victim: min(cell.value for (_, of), cell in found.items() if of == victim) for victim in victims
    }
    clean = [
        mean(100 * record.mean("clean", metric) for record in records if _victim(record) == victim)
        for victim in victims
    ]
    lines = [["(clean)", *(f"{value:.1f}" for value in clean)]]
    for attack in attacks:
        row = [found.get((attack, victim)) for victim in victims]
        bold = [lowest[victim] if style == "markdown" else None for victim in victims]
        shown = [_shown(cell, best) for cell, best in zip(row, bold, strict=True)]
        lines.append([_escape(attack, style), *shown])
    sides = ["left", *["right"] * len(victims)]
    header = ["attack", *(_escape(victim, style) for victim in victims)]
    return tabulate(lines, header, tablefmt=_STYLES[style], disable_numparse=True, colalign=sides)


def _escape(text: str, style: str) -> str:
    return style_of(style).escape(text)


def _shown(cell: Cell | None, lowest: float | None) -> str:
    if cell is None:
        return ""
    text = f"{cell.value:.1f}" if cell.spread is None else f"{cell.value:.1f} ± {cell.spread:.1f}"
    return f"**{text}**" if cell.value == lowest else text


def _victim(record: Record) -> str:
    return record.victim_label or record.config["victim"]["name"]
