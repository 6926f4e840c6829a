"""Which records are runs of one thing, and what tells victims, surrogates and attacks of one name apart."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

from vbench.records.record import Record, canonical, precision_text

_Key = tuple[str, ...]


def victim_key(record: Record) -> _Key:
    """The key of a record's victim: name, options, weights, and all else that its configuration says."""
    victim = record.config["victim"]
    options = str(sorted(victim.get("options", {}).items()))
    return victim["name"], options, victim["weights"], canonical(victim)


def surrogate_key(record: Record) -> _Key:
    """The key of a record's surrogate; not its input size, which is that of the victim."""
    card: dict[str, Any] = record.config.get("surrogate") or {}
    options = {name: value for name, value in card.get("options", {}).items() if name != "input_size"}
    return record.surrogate, canonical({**card, "options": options})


def seeds_key(record: Record, *other: str) -> _Key:
    """Equal for records whose configurations differ only in their seed and in ``other`` parts.

    With "perturbation" in ``other`` all replays are alike, but none is like a run that learns.
    """
    same = {name: part for name, part in record.config.items() if name not in ("seed", *other)}
    if "perturbation" in other:
        same["perturbation"] = bool(record.config.get("perturbation"))
    if same.get("surrogate"):
        same["surrogate"] = surrogate_key(record)
    return record.label, canonical(same)


def victim_facts(record: Record, part: str = "victim") -> dict[str, object]:
    """What tells victims of one name apart, the usual first."""
    card = record.config.get(part) or {}
    found = {name: card.get(name) for name in ("weights", "version", "structure", "source")}
    return {**found, "precision": precision_text(card.get("precision"))}


def attack_facts(record: Record, *other: str) -> dict[str, object]:
    """What tells attacks of one label apart, the usual first, without ``other``."""
    config = record.config
    found = {
        **{name: config["attack"].get(name) for name in ("version", "source")},
        "surrogate": victim_facts(record, "surrogate")["weights"],
        "perturbation": config.get("perturbation"),
        "training": config["dataset"].get("training"),
    }
    return {name: value for name, value in found.items() if name not in other}


def told_apart(
    records: Sequence[Record],
    key: Callable[[Record], Hashable],
    name: Callable[[Record], Hashable],
    facts: Callable[[Record], Mapping[str, object]],
) -> dict[Hashable, str]:
    """For each ``key`` what tells it from the others of its ``name``, as "weights 0123abcd"; else an id.

    It is empty where no other has the name. As few facts are told as are needed.
    """
    alike: dict[Hashable, dict[Hashable, dict[str, object]]] = {}
    for record in records:
        alike.setdefault(name(record), {}).setdefault(key(record), {**facts(record), "": record.id})
    told: dict[Hashable, str] = {}
    for same in alike.values():
        apart: dict[Hashable, list[str]] = {one: [] for one in same}
        for fact in next(iter(same.values())):
            if len(set(map(tuple, apart.values()))) == len(same):
                break
            values = {one: str(held[fact] or "") for one, held in same.items()}
            for one, value in values.items():
                if value and len(set(values.values())) > 1:
                    apart[one].append(f"{fact} {value[:8]}" if fact else value)
        told |= {one: ", ".join(words) for one, words in apart.items()}
    return told


def attack_marks(
    records: Sequence[Record], name: Callable[[Record], Hashable], *other: str
) -> dict[Hashable, str]:
    """What follows the ``name`` of attacks, as ", version 2", by :func:`seeds_key` with ``other``."""
    told = told_apart(
        records, lambda record: seeds_key(record, *other), name, lambda record: attack_facts(record, *other)
    )
    return {key: f", {apart}" if apart else "" for key, apart in told.items()}


def victim_names(records: Sequence[Record]) -> dict[_Key, str]:
    """The name of each victim by :func:`victim_key`: "agw[weights 0123abcd]" where several are called agw."""
    return _names(records, victim_key, lambda record: record.victim_name, victim_facts)


def surrogate_names(records: Sequence[Record]) -> dict[_Key, str]:
    """The name of each surrogate by :func:`surrogate_key`, likewise."""
    facts = partial(victim_facts, part="surrogate")
    return _names(records, surrogate_key, lambda record: record.surrogate, facts)


def _names(
    records: Sequence[Record],
    key: Callable[[Record], _Key],
    name: Callable[[Record], str],
    facts: Callable[[Record], Mapping[str, object]],
) -> dict[_Key, str]:
    told = told_apart(records, key, name, facts)
    names = {key(record): name(record) for record in records}
    return {one: f"{text}[{told[one]}]" if told[one] else text for one, text in names.items()}
