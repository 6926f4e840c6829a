"""Do attack and victim declare what the record says of them?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vbench._version import __version__
from vbench.data.protocols import LAYOUTS
from vbench.record import Record, precision_text
from vbench.reports.verify.declared import (
    Declared,
    DeclaredVictim,
    declared_attack,
    declared_victim,
    of_library,
)
from vbench.reports.verify.verdict import Mark

_PIXEL, _FEATURE = "pixel", "feature"


def marks(record: Record) -> list[Mark]:
    """Whose attack, victim and version it is, where they are not this vbench's own."""
    attack, found = record.config["attack"], [Mark.OLDER_IDENTITY] if record.older else []
    if record.config["dataset"]["name"] not in LAYOUTS:
        found.append(Mark.FOREIGN_DATA)
    declared = declared_attack(attack["name"])
    if declared is None or "source" in attack:
        found.append(Mark.LIBRARY_ATTACK if of_library(attack["name"]) else Mark.FOREIGN_ATTACK)
    victim = record.config["victim"]
    known = declared_victim(victim["name"])
    if known is None or "source" in victim:
        found.append(Mark.FOREIGN_VICTIM)
    if any(declared_victim(str(card["name"])) is None for card in _crafted_on(record)):
        found.append(Mark.FOREIGN_SURROGATE)
    other_settings = not _same_version(record) and declared and declared.problems(attack["settings"])
    if other_settings or _of_other_version(attack, declared) or _of_other_version(victim, known):
        found.append(Mark.OTHER_VERSION)
    return found


def _of_other_version(card: Mapping[str, Any], declared: Declared | DeclaredVictim | None) -> bool:
    # Records of older kinds do not tell.
    return declared is not None and card.get("version", declared.version) != declared.version


def attack(record: Record) -> Iterator[str]:
    """Settings, label, knowledge, level and norm of the attack are those that it declares."""
    card, threat = record.config["attack"], record.config["threat"]
    declared = declared_attack(card["name"])
    if record.level not in (_PIXEL, _FEATURE):
        yield f"level: {record.level!r}, known are {_PIXEL} and {_FEATURE}"
    if declared is None:
        yield from _foreign(record)
        return
    wrong = declared.problems(card["settings"])
    if wrong and _same_version(record):
        yield from (f"config.attack.{problem}" for problem in wrong)
        return
    expected = {
        "universal": declared.universal,
        "knowledge": declared.knowledge(card["settings"]),
        "level": _FEATURE if declared.tampers(card["settings"]) else _PIXEL,
    }
    # Defaults, which a label leaves out, may have been others when an older record was made.
    if not wrong and not record.older:
        expected["label"] = declared.label(card["settings"])
    for name, value in expected.items():
        if getattr(record, name) != value:
            yield f"{name}: {getattr(record, name)!r}, {card['name']} with these settings has {value!r}"
    if threat["norm"] not in declared.norms:
        yield f"config.threat.norm: {threat['norm']}, {card['name']} works in {', '.join(declared.norms)}"
    if record.config["perturbation"] is not None and not declared.universal:
        yield f"config.perturbation: present, but {card['name']} learns none"
    yield from _members(declared, record)


def victim(record: Record) -> Iterator[str]:
    """Options and labels of the victim, and of a surrogate's members, are those that they declare."""
    card = record.config["victim"]
    yield from _options(card, "config.victim")
    expected = victim_label(card)
    if expected is not None and record.victim_label != expected:
        yield f"victim_label: {record.victim_label!r}, the configuration says {expected!r}"
    if expected is None and not record.victim_label.startswith(card["name"]):
        yield f"victim_label: {record.victim_label!r} does not begin with the victim's name, {card['name']!r}"
    yield from _surrogate(record)


def victim_label(card: Mapping[str, Any]) -> str | None:
    """What a table calls the victim of a configuration; None if it is not built in."""
    declared = declared_victim(card["name"])
    if declared is None:
        return None
    name, precision = declared.label(card["options"]), precision_text(card.get("precision"))
    return f"{name} ({precision})" if precision else name


def _foreign(record: Record) -> Iterator[str]:
    name = record.config["attack"]["name"]
    if record.label != name and not (record.label.startswith(f"{name}[") and record.label.endswith("]")):
        yield f"label: {record.label!r} is not {name!r} with settings in brackets"
    if of_library(name) and (record.universal or record.knowledge or record.level != _PIXEL):
        yield f"knowledge: {name} is of a library: per-image, at pixel level, with no more knowledge"
    if record.knowledge != sorted(set(record.knowledge)) or not all(map(_is_word, record.knowledge)):
        yield f"knowledge: {record.knowledge} are not words in order, each once"


def _is_word(text: str) -> bool:
    return 0 < len(text) <= 40 and text.replace("_", "").replace("-", "").isalnum() and text.isascii()


def _members(declared: Declared, record: Record) -> Iterator[str]:
    cards = record.config["attack"].get("members", [])
    found = [{part: card[part] for part in ("name", "settings")} for card in cards]
    if _same_version(record) and found != list(declared.members):
        yield f"config.attack.members: not the {len(declared.members)} that {declared.name} has"
    if declared.members and record.config["threat"]["side"] != "query":
        yield f"config.threat.side: {record.config['threat']['side']}, {declared.name} attacks queries"


def _options(card: Mapping[str, Any], where: str) -> Iterator[str]:
    declared = declared_victim(card["name"])
    if declared is None:
        return
    for name in sorted(card["options"].keys() - {"name", *declared.options}):
        yield f"{where}.options.{name}: {card['name']} has no such option"
    for name in declared.settings.keys() - card["options"].keys():
        yield f"{where}.options.{name}: absent; it chooses what is ranked"


def _surrogate(record: Record) -> Iterator[str]:
    card = record.config.get("surrogate")
    name = card["name"] if card else ""
    if record.surrogate != name:
        yield f"surrogate: {record.surrogate!r}, the configuration says {name!r}"
    if card is None:
        return
    labels = []
    for index, one in enumerate(_crafted_on(record)):
        given = {"name": str(one["name"]), "options": one}
        yield from _options(given, f"config.surrogate.options.members[{index}]")
        labels.append(victim_label(given) or given["name"])
    if "+".join(labels) != name:
        yield f"config.surrogate.name: {name!r}, its members are {'+'.join(labels)!r}"


def _crafted_on(record: Record) -> list[Mapping[str, Any]]:
    """The members of a surrogate, each with its name and options; none where the card lists none."""
    surrogate = record.config.get("surrogate") or {"options": {}}
    members = surrogate["options"].get("members")
    named = isinstance(members, list) and all(isinstance(one, dict) and "name" in one for one in members)
    return members if named else []


def _same_version(record: Record) -> bool:
    versions = record.environment.get("versions")
    return not isinstance(versions, dict) or versions.get("vbench", __version__) == __version__
