"""Transfer attacks: the matrix of surrogates and victims."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from vbench.core.text import one_line
from vbench.records.record import Record
from vbench.reports.distinct import (
    attack_facts,
    seeds_key,
    surrogate_key,
    surrogate_names,
    told_apart,
    victim_key,
    victim_names,
)
from vbench.reports.frame import flat
from vbench.reports.rows import CLEAN, HEADINGS, setting
from vbench.reports.table import Column, Table, simple, write


@dataclass(frozen=True)
class Matrix:
    """Percent, surrogates x victims, NaN where nothing was run; ``clean``: each victim's clean value.

    ``own``, surrogates x victims: crafted on the same model, maybe with other weights, or on an ensemble
    with it.
    """

    surrogates: list[str]
    victims: list[str]
    values: np.ndarray
    clean: np.ndarray
    own: np.ndarray


def matrix_key(record: Record) -> Hashable:
    """Equal for records that share a matrix: one setting and attack, any surrogate, victim and seed."""
    # What is replayed was learnt on the surrogate.
    return setting(record), seeds_key(record, "surrogate", "victim", "perturbation")


def matrix(records: Sequence[Record], metric: str) -> Matrix:
    """The matrix of one attack and setting, mean over trials and seeds."""
    surrogates, victims = surrogate_names(records), victim_names(records)
    rows, columns = list(surrogates), list(victims)
    cells: dict[tuple[int, int], list[Record]] = defaultdict(list)
    for record in records:
        cells[rows.index(surrogate_key(record)), columns.index(victim_key(record))].append(record)
    values = np.full((len(rows), len(columns)), np.nan)
    own = np.zeros(values.shape, bool)
    for place, same in cells.items():
        values[place] = 100 * mean(record.mean("adversarial", metric) for record in same)
        own[place] = _on_same_model(same[0])
    clean = [
        100 * mean(record.mean("clean", metric) for record in records if victim_key(record) == key)
        for key in columns
    ]
    names = [[one_line(name) for name in found.values()] for found in (surrogates, victims)]
    return Matrix(names[0], names[1], values, np.array(clean), own)


def _on_same_model(record: Record) -> bool:
    # Not by weights: a record has those of the surrogate inside its wrapper.
    victim, source = record.config["victim"], record.config.get("surrogate") or {}
    options = source.get("options", {})
    members = options.get("members") or [{"name": source.get("name"), **options}]
    return {"name": victim["name"], **victim.get("options", {})} in members


def transfer_matrices(records: Sequence[Record], metric: str = "r1", style: str = "plain") -> str:
    """One matrix per attack and setting: ``metric`` in percent after the attack, mean over trials and seeds.

    Rows are the surrogates an attack was crafted on, columns the victims it was applied to; the first row is
    the victims' clean value, the last column, others, the mean over victims that are another model
    than the surrogate, whatever its weights.
    """
    moved = [record for record in records if record.surrogate]
    grouped: dict[Hashable, list[Record]] = defaultdict(list)
    for record in moved:
        grouped[matrix_key(record)].append(record)
    marks = told_apart(
        moved,
        matrix_key,
        lambda record: (setting(record), _attack(record)),
        lambda record: attack_facts(record, "surrogate", "perturbation"),
    )
    return write([_table(same, marks, metric) for same in grouped.values()], style)


def _table(records: Sequence[Record], marks: dict[Hashable, str], metric: str) -> Table:
    first, found = records[0], matrix(records, metric)
    where, mark = setting(first), marks[matrix_key(first)]
    attack = _attack(first) + (f", {mark}" if mark else "")
    lines = [[CLEAN, *map(_shown, found.clean), ""]]
    for name, values, own in zip(found.surrogates, found.values, found.own, strict=True):
        others = values[~own & ~np.isnan(values)]
        lines.append([name, *map(_shown, values), _shown(others.mean()) if others.size else ""])
    return simple(
        f"{where.title}   {attack}, {HEADINGS[metric]} after the attack, %",
        [Column(name, True) for name in ("from \\ on", *found.victims, "others")],
        lines,
        f"transfer {where.protocol} {where.threat} {first.label} {metric}",
        flat=lambda: flat(records),
    )


def _attack(record: Record) -> str:
    return record.label + (" (replayed)" if record.config.get("perturbation") else "")


def _shown(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.1f}"
