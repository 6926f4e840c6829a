"""Checks that a record's attack and victim match what their classes declare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from vbench.attacks.build import label_of
from vbench.attacks.registry import ATTACKS, LIBRARIES
from vbench.core.version import __version__
from vbench.data.protocols import LAYOUTS
from vbench.records.record import Record, precision_text
from vbench.reports.verify.verdict import Mark
from vbench.victims.registry import VICTIMS


@dataclass(frozen=True)
class Declared:
    """Facts about one built-in attack. ``settings`` below are those of a record."""

    name: str
    version: int
    universal: bool
    needs: tuple[str, ...]
    norms: tuple[str, ...]
    defaults: Mapping[str, Any]
    schemas: Mapping[str, Any]
    presets: Mapping[str, Mapping[str, Any]]
    base: frozenset[str]
    knows_more: Mapping[str, Mapping[str, list[str]]]
    choices_that_tamper: Mapping[str, Mapping[str, bool]]
    choices_that_retrain: Mapping[str, Mapping[str, bool]]
    members: tuple[Mapping[str, Any], ...]

    def problems(self, settings: Mapping[str, Any]) -> list[str]:
        """Errors in settings, one line each: unknown names, and values that the field refuses."""
        unknown = [
            f"settings.{name}: {self.name} has no such setting" for name in settings.keys() - self.schemas
        ]
        wrong = [
            f"settings.{'.'.join(str(part) for part in error.path)}: {_short(error.message)}"
            for error in self._validator.iter_errors(dict(settings))
        ]
        return sorted(unknown + wrong)

    def knowledge(self, settings: Mapping[str, Any]) -> list[str]:
        """What the attacker knows beyond victim and image, sorted."""
        more = [known for choices in self._chosen(self.knows_more, settings) for known in choices]
        return sorted(self.base.union(more))

    def tampers(self, settings: Mapping[str, Any]) -> bool:
        """Whether the attack changes features inside the victim, or trains it."""
        return any(self._chosen(self.choices_that_tamper, settings))

    def level(self, settings: Mapping[str, Any]) -> str:
        """What the attacker may change: one of :data:`LEVELS`."""
        if any(self._chosen(self.choices_that_retrain, settings)):
            return "model"
        return _FEATURE if self.tampers(settings) else _PIXEL

    def label(self, settings: Mapping[str, Any]) -> str:
        """The name with non-default settings; a setting that a record lacks has its default."""
        return label_of(self.name, {**self.defaults, **settings}, self.defaults, self.presets)

    @property
    def black_box(self) -> bool:
        """Whether the attack sees only embeddings or rankings."""
        return self.needs == ("embeddings",)

    @property
    def blind(self) -> bool:
        """Whether the attack does not use the victim at all, like noise."""
        return not self.needs and not self.members

    @cached_property
    def _validator(self) -> Any:
        # Imported here because it is slow and not always needed.
        from jsonschema import Draft202012Validator

        return Draft202012Validator({"type": "object", "properties": dict(self.schemas)})

    @staticmethod
    def _chosen(by_choice: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]) -> list[Any]:
        return [
            answers[settings[name]]
            for name, answers in by_choice.items()
            if isinstance(settings.get(name), str) and settings[name] in answers
        ]


@cache
def declared_attack(name: str) -> Declared | None:
    """Facts about the attack of this name; None if it is not built in."""
    found = ATTACKS.get(name)
    if found is None:
        return None
    return Declared(
        name=name,
        version=found["version"],
        universal=found["universal"],
        needs=tuple(found["needs"]),
        norms=tuple(found["norms"]),
        defaults=found["defaults"],
        schemas=found["schemas"],
        presets=found["presets"],
        base=frozenset(found["knowledge"]),
        knows_more=found["knows_more"],
        choices_that_tamper=found["tampers"],
        choices_that_retrain=found["retrains"],
        members=tuple(found["members"]),
    )


def of_library(name: str) -> bool:
    """Whether a name is that of a library's attack: per-image, without further knowledge."""
    return name.partition(":")[0] in LIBRARIES and ":" in name


@dataclass(frozen=True)
class DeclaredVictim:
    """One built-in victim: names of its options, and those that choose what is ranked, with defaults."""

    name: str
    version: int
    options: tuple[str, ...]
    settings: Mapping[str, Any]

    def label(self, options: Mapping[str, Any]) -> str:
        """The name with non-default ranking settings."""
        usual = {name: value for name, value in self.settings.items() if name in options}
        return label_of(self.name, options, usual, {})


@cache
def declared_victim(name: str) -> DeclaredVictim | None:
    """Facts about the victim of this name; None if it is not built in."""
    found = VICTIMS.get(name)
    if found is None:
        return None
    return DeclaredVictim(name, found.version, tuple(found.options), found.settings)


def _short(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:157]}..."


_PIXEL, _FEATURE = "pixel", "feature"

#: What an attacker may change.
LEVELS = (_PIXEL, _FEATURE, "model")


def marks(record: Record) -> list[Mark]:
    """Marks for an attack, victim or version that is not this vbench's own."""
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
    # Records of older kinds do not state it.
    return declared is not None and card.get("version", declared.version) != declared.version


def check_attack(record: Record) -> Iterator[str]:
    """Settings, label, knowledge, level and norm of the attack match its declaration."""
    card, threat = record.config["attack"], record.config["threat"]
    declared = declared_attack(card["name"])
    if record.level not in LEVELS:
        yield f"level: {record.level!r}, known are {', '.join(LEVELS)}"
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
        "level": declared.level(card["settings"]),
    }
    # Defaults, which a label leaves out, may have been different for an older record.
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


def check_victim(record: Record) -> Iterator[str]:
    """Options and labels of the victim, and of a surrogate's members, match their declarations."""
    card = record.config["victim"]
    yield from _options(card, "config.victim")
    expected = victim_label(card)
    if expected is not None and record.victim_label != expected:
        yield f"victim_label: {record.victim_label!r}, the configuration says {expected!r}"
    if expected is None and not record.victim_label.startswith(card["name"]):
        yield f"victim_label: {record.victim_label!r} does not begin with the victim's name, {card['name']!r}"
    yield from _surrogate(record)


def victim_label(card: Mapping[str, Any]) -> str | None:
    """The label of a configuration's victim in tables; None if it is not built in."""
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
        own = str(one["name"])
        given = {"name": own, "options": one}
        yield from _options(given, f"config.surrogate.options.members[{index}]")
        labels.append(victim_label(given) or own)
    if "+".join(labels) != name:
        yield f"config.surrogate.name: {name!r}, its members are {'+'.join(labels)!r}"


def _crafted_on(record: Record) -> list[Mapping[str, Any]]:
    """The members of a surrogate, each with its name and options; none if the card lists none."""
    surrogate = record.config.get("surrogate") or {"options": {}}
    members = surrogate["options"].get("members")
    named = isinstance(members, list) and all(isinstance(one, dict) and "name" in one for one in members)
    return members if named else []


def _same_version(record: Record) -> bool:
    versions = record.environment.get("versions")
    return not isinstance(versions, dict) or versions.get("vbench", __version__) == __version__
