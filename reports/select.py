"""Which records and which metrics a report is about: ``--where`` and ``--metrics``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from vbench.errors import BadInput, unknown_name
from vbench.record import Record
from vbench.reports.rows import HEADINGS

#: Metrics of a full table unless asked otherwise.
DEFAULT_METRICS = ("r1", "r10", "map", "minp", "asr")
KNOWN_METRICS = (*HEADINGS, "asr")

#: Keys of ``--where``: every way a record may be called there, the name shown in messages first.
_KEYS: dict[str, Callable[[Record], tuple[str, ...]]] = {
    "victim": lambda record: (record.victim_label or _of(record, "victim"), _of(record, "victim")),
    "attack": lambda record: (record.label or _of(record, "attack"), _of(record, "attack")),
    "surrogate": lambda record: (record.surrogate or "none",),
    "dataset": lambda record: (_of(record, "dataset"),),
    "protocol": lambda record: (record.protocol,),
    "eps": lambda record: (str(record.config["threat"]["eps"]),),
    "norm": lambda record: (record.config["threat"]["norm"],),
    "side": lambda record: (record.config["threat"]["side"],),
    "seed": lambda record: (str(record.config["seed"]),),
    "level": lambda record: (record.level,),
    "synthetic": lambda record: ("yes" if record.synthetic else "no",),
    "universal": lambda record: ("yes" if record.universal else "no",),
    "weights": lambda record: (record.config["victim"]["weights"],),
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


def parse_where(text: str) -> dict[str, list[str]]:
    """Conditions from "victim=agw eps=8/255": key -> accepted values; a repeated key accepts either value.

    Raises BadInput for an unknown key, with the nearest, for a word that is not key=value and for an eps
    that is not a number.
    """
    wanted: dict[str, list[str]] = {}
    for word in text.split():
        key, sign, value = word.partition("=")
        if not sign or not value:
            raise BadInput(
                f"--where takes key=value, separated by spaces, for instance victim=agw; got '{word}'"
            )
        if key not in _KEYS:
            raise unknown_name("key of --where", key, _KEYS)
        if key == "eps" and _number(value) is None:
            raise BadInput(f"--where eps={value} is not a number; write it as 8/255 or 0.03")
        wanted.setdefault(key, []).append(value)
    return wanted


def select(records: Sequence[Record], text: str) -> list[Record]:
    """The records that meet every condition of ``--where``; BadInput, with the values there are, for none.

    eps is compared as a number: 8/255, 0.0313725 and 0.03137254901960784 are one budget.
    """
    wanted = parse_where(text)
    found = [
        record
        for record in records
        if all(any(_meets(record, key, value) for value in values) for key, values in wanted.items())
    ]
    if not found:
        there = "; ".join(f"{key}: {', '.join(_values(records, key))}" for key in wanted)
        raise BadInput(f"no record meets --where '{text}'; recorded are {there}")
    return found


def _of(record: Record, part: str) -> str:
    return record.config[part]["name"]


def _meets(record: Record, key: str, value: str) -> bool:
    if key != "eps":
        return value in _KEYS[key](record)
    recorded, asked = _number(_KEYS[key](record)[0]), _number(value)
    # Six digits of a decimal are enough to mean a budget, and tell any two levels of 8 bits apart.
    return None not in (recorded, asked) and abs(recorded - asked) <= Fraction(1, 10**6)


def _values(records: Sequence[Record], key: str) -> list[str]:
    return sorted({_KEYS[key](record)[0] for record in records})


def _number(text: str) -> Fraction | None:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None
