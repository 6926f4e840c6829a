"""Published results, as their sources print them; measured results are never merged with them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Published:
    """One printed figure, in percent.

    ``attack`` and ``budget`` are empty for clean results. ``protocol`` is a protocol id; "regdb/vis2ir" and
    "regdb/ir2vis" are means over the ten splits. ``note`` says what is doubtful about the figure.
    """

    victim: str
    attack: str
    protocol: str
    metric: str
    value: float
    budget: str
    source: str
    note: str


@cache
def published() -> tuple[Published, ...]:
    """Every figure, in the order of the file ``published.csv`` beside this module."""
    text = files("vbench.reports").joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(
        Published(**{**row, "value": float(row["value"])}) for row in csv.DictReader(text.splitlines())
    )


def clean_results(victim: str) -> list[list[str]]:
    """Rows of protocol, Rank-1, mAP, mINP, source and note for a victim's clean results."""
    grouped: dict[tuple[str, str, str], dict[str, float]] = {}
    for one in published():
        if one.victim == victim and not one.attack:
            grouped.setdefault((one.protocol, one.source, one.note), {})[one.metric] = one.value
    return [
        [protocol, *(_figure(values.get(metric)) for metric in ("r1", "map", "minp")), source, note]
        for (protocol, source, note), values in grouped.items()
    ]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
