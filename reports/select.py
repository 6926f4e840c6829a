"""Selects records and metrics of a report: ``--where`` and ``--metrics``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeVar

from vbench.core.errors import BadInput, unknown_name
from vbench.core.threat import budget_text, read_fraction
from vbench.records.record import Record
from vbench.reports.published import Published
from vbench.reports.rows import KNOWN_METRICS

_Item = TypeVar("_Item")
_Keys = Mapping[str, Callable[[Any], tuple[str, ...]]]

#: Default metrics of a full table.
DEFAULT_METRICS = ("r1", "r10", "map", "minp", "asr")

#: Keys of ``--where`` -> all values that match a record; the first one is shown in messages.
_KEYS: dict[str, Callable[[Record], tuple[str, ...]]] = {
    "victim": lambda record: (record.victim_label or _of(record, "victim"), _of(record, "victim")),
    "attack": lambda record: (record.label or _of(record, "attack"), _of(record, "attack")),
    "surrogate": lambda record: (record.surrogate or "none",),
    "dataset": lambda record: (_of(record, "dataset"),),
    "protocol": lambda record: (record.protocol,),
    "eps": lambda record: (budget_text(record.config["threat"]),),
    "norm": lambda record: (record.config["threat"]["norm"],),
    "side": lambda record: (record.config["threat"]["side"],),
    "seed": lambda record: (str(record.config["seed"]),),
    "level": lambda record: (record.level,),
    "synthetic": lambda record: ("yes" if record.synthetic else "no",),
    "universal": lambda record: ("yes" if record.universal else "no",),
    "weights": lambda record: (record.config["victim"]["weights"],),
}
_PRINTED: dict[str, Callable[[Published], tuple[str, ...]]] = {
    "victim": lambda one: (one.victim,),
    "attack": lambda one: (one.attack or "none",),
    "protocol": lambda one: (one.protocol,),
    "dataset": lambda one: (one.protocol.split("/")[0].split(",")[0],),
    "eps": lambda one: (one.budget or "not stated",),
}


def pick_metrics(text: str) -> tuple[str, ...]:
    """Metrics from "r1,map"; raises BadInput for an unknown one, with the nearest, and for none at all."""
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in KNOWN_METRICS:
            raise unknown_name("metric", name, KNOWN_METRICS)
    if not names:
        raise BadInput(f"--metrics names no metric; known: {', '.join(KNOWN_METRICS)}")
    return names


def select(records: Sequence[Record], text: str) -> list[Record]:
    """The records that meet every condition of "victim=agw eps=8/255"; a repeated key accepts either value.

    eps is compared as a number: 8/255, 0.031373 and 0.03137254901960784 are one budget. Raises BadInput for
    an unknown key, with the nearest, for a word that is not key=value, for an eps that is not a number, and,
    with the existing values, if nothing meets the conditions.
    """
    return _select(records, text, _KEYS, "record")


def select_published(figures: Sequence[Published], text: str) -> list[Published]:
    """The published values that meet every condition, as :func:`select` does for records."""
    return _select(figures, text, _PRINTED, "published value")


def _select(items: Sequence[_Item], text: str, keys: _Keys, what: str) -> list[_Item]:
    wanted = _parse(text, keys)
    found = [
        item
        for item in items
        if all(any(_meets(keys[key](item), key, value) for value in values) for key, values in wanted.items())
    ]
    if not found:
        there = "; ".join(
            f"{key}: {', '.join(sorted({keys[key](item)[0] for item in items}))}" for key in wanted
        )
        raise BadInput(f"no {what} meets --where '{text}'; there are {there}")
    return found


def _parse(text: str, keys: _Keys) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = {}
    for word in text.split():
        key, sign, value = word.partition("=")
        if not sign or not value:
            raise BadInput(f"--where takes key=value and spaces between, such as victim=agw; got '{word}'")
        if key not in keys:
            raise unknown_name("key of --where", key, keys)
        if key == "eps" and _number(value) is None:
            raise BadInput(f"--where eps={value} is not a number; write it as 8/255 or 0.03")
        wanted.setdefault(key, []).append(value)
    if not wanted:
        raise BadInput(f"--where names no condition; known keys: {', '.join(sorted(keys))}")
    return wanted


def _of(record: Record, part: str) -> str:
    return record.config[part]["name"]


def _meets(names: Sequence[str], key: str, value: str) -> bool:
    if key != "eps":
        return value in names
    recorded, asked = _number(names[0]), _number(value)
    if recorded is None or asked is None:
        return False
    # Decimals are rounded; a millionth is far below the 1/255 between two 8-bit levels.
    return abs(recorded - asked) <= Fraction(1, 10**6)


def _number(text: str) -> Fraction | None:
    try:
        return read_fraction(text)
    except ValueError:
        return None
