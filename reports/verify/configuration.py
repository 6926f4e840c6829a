"""Checks of a record's configuration: id, protocol, budget, and what its attack and victim declare."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vbench.attacks.build import label_of
from vbench.attacks.registry import ATTACKS, LIBRARIES
from vbench.core import __version__
from vbench.core.errors import BadInput
from vbench.core.threat import ThreatModel, budget_text, parse_budget, show_budget
from vbench.data.protocols import DRAWS, LAYOUTS, Protocol, parse_protocol
from vbench.data.registry import DATASETS
from vbench.records.record import Record, config_id, precision_text
from vbench.victims.registry import VICTIMS

_Name = Annotated[str, Field(min_length=1, max_length=300)]

_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]

_Digits = Literal["ieee", "tf32", "bf16"]


class _Strict(BaseModel):
    """Older kinds of configurations lack the fields that have a default here."""

    model_config = ConfigDict(extra="forbid", strict=True)


class _Products(_Strict):
    matmul: _Digits
    convolution: _Digits


class _Precision(_Strict):
    dtype: Literal["float32", "bfloat16", "float16", "float64"]
    channels_last: bool
    autocast: bool = False
    parameters: Annotated[str, Field(pattern=r"^b?float\d+(\+b?float\d+)*$")] = "float32"
    float32: _Products | None = None


class _Code(_Strict):
    """Identity of the code: the version of vbench's own classes, a hash of the source of others."""

    name: _Name
    version: Annotated[int, Field(ge=1)] | None = None
    source: _Hash | None = None
    library: Annotated[str, Field(pattern=r"^[a-z0-9.-]+ [\w.+!-]+$")] | None = None


class _Victim(_Code):
    options: dict[str, Any]
    weights: _Hash
    structure: _Hash | None = None
    members: list[_Code] = Field(default_factory=list)
    precision: _Precision | None = None


class _Dataset(_Strict):
    name: _Name
    protocol: _Name
    split: str
    synthetic: bool
    fingerprint: _Hash
    training: _Hash | None = None
    source: _Hash | None = None


class _Attack(_Code):
    settings: dict[str, Any]
    members: list[_Attack] = Field(default_factory=list)


class _Threat(_Strict):
    norm: Literal["linf", "l2"]
    eps: str
    eps_value: Annotated[float, Field(gt=0)]
    side: Literal["query", "gallery", "both"]
    quantize: bool


class _Config(_Strict):
    identity: Literal[2] = 2
    victim: _Victim
    dataset: _Dataset
    attack: _Attack
    threat: _Threat
    seed: Annotated[int, Field(ge=0)]
    perturbation: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None
    surrogate: _Victim | None = None


def complaints(error: ValidationError, within: Sequence[str] = ()) -> list[str]:
    """The first errors of types, one line each; ``within``: where the checked part stands in the record."""
    found = []
    for one in error.errors(include_url=False)[:5]:
        where = ".".join([*within, *map(str, one["loc"])]) or "file"
        shown = "" if one["type"] in ("json_invalid", "missing") else f", found {one['input']!r:.60}"
        found.append(f"{where}: {one['msg']}{shown}")
    return found


def problems(config: dict[str, Any]) -> list[str]:
    """Errors in the structure of a configuration, one line each."""
    data = config.get("dataset")
    if isinstance(data, dict) and "queries" in data:
        fewer = f"made with --queries {data['queries']!r:.20}"
        return [
            f"{fewer}: a result on a part of the queries is not comparable; run it again without --queries"
        ]
    try:
        _Config.model_validate(config)
    except ValidationError as error:
        return complaints(error, ["config"])
    return []


def check_id(record: Record, file_name: str | None) -> Iterator[str]:
    """The id is the hash of the configuration, and the file is named by it."""
    found = config_id(record.config)
    if record.id != found:
        yield f"id: {record.id[:40]}, but the configuration hashes to {found}: one of them was changed"
    elif file_name is not None and not file_name.endswith(f"-{record.id}.json"):
        yield f"file name: {file_name}, should end in -{record.id}.json"


def check_digest(record: Record) -> Iterator[str]:
    """The digest matches the content."""
    fault = record.fault()
    if fault is not None:
        yield f"digest: {fault}"


def check_date(record: Record) -> Iterator[str]:
    """The date is valid and has a time zone."""
    try:
        when = datetime.datetime.fromisoformat(record.created)
    except ValueError:
        yield f"created: {record.created!r} is not a date"
        return
    if when.tzinfo is None:
        yield f"created: {record.created} has no time zone"


def check_protocol(record: Record) -> Iterator[str]:
    """Protocol, data set, split and the SYNTHETIC mark agree."""
    data = record.config["dataset"]
    if record.protocol != data["protocol"]:
        yield f"protocol: {record.protocol}, the configuration says {data['protocol']}"
    if record.synthetic is not data["synthetic"]:
        yield f"synthetic: {record.synthetic}, the configuration says {data['synthetic']}"
    if not data["protocol"].startswith(f"{data['name']}/"):
        yield f"config.dataset.name: {data['name']}, the protocol is {data['protocol']}"
        return
    try:
        protocol = protocol_of(record)
    except BadInput as error:
        yield f"config.dataset.protocol: {error}"
        return
    if protocol is None:
        return
    split = f"{protocol.layout}/trial-{protocol.trial}" if protocol.layout == "regdb" else protocol.layout
    if data["split"] != split:
        yield f"config.dataset.split: {data['split']}, should be {split}"


def protocol_of(record: Record) -> Protocol | None:
    """The protocol of a record; None for a data set that is not vbench's own.

    Raises :class:`BadInput` for an unknown protocol of one of vbench's own data sets.
    """
    data = record.config["dataset"]
    return parse_protocol(data["protocol"]) if data["name"] in LAYOUTS else None


def trial_names(protocol: Protocol) -> list[str]:
    """Names of a protocol's trials, in order."""
    if protocol.trial is not None:
        return [f"trial-{protocol.trial}"]
    if protocol.galleries == "randperm10":
        return [f"randperm-{number}" for number in range(1, DRAWS + 1)]
    return [f"seed-{number}" for number in range(DRAWS)]


def queries_of(protocol: Protocol) -> int | None:
    """How many queries each trial of a real set has; None where nobody published it."""
    known = DATASETS[protocol.layout]["published"]
    if protocol.layout == "sysu":
        # Indoor search has the same queries; the number of visible test images is not published.
        return known["queries, all-search"] if protocol.direction == "ir2vis" else None
    asked = "visible" if protocol.direction == "vis2ir" else "infrared"
    return known[f"test images, {asked}"]


#: The sizes of a change, and their range.
_SIZES = {
    "linf_levels": (0.0, 255.0),
    "l2": (0.0, math.inf),
    "psnr_db": (0.0, 100.0),
    "ssim": (-1.0, 1.0),
    "changed_share": (0.0, 1.0),
}

#: Tolerance: stored values were 32-bit floats.
_ROUNDING = 1e-4

#: Tolerance of the threat model for float images beyond the budget.
_FLOAT_SLACK = 1e-5


def check_threat(record: Record) -> Iterator[str]:
    """The threat card is that of a valid threat model."""
    card = record.config["threat"]
    try:
        text = parse_budget(card["eps"], card["norm"])
        _threat(record)
    except BadInput as error:
        yield f"config.threat: {error}"
        return
    known = {show_budget(text, card["norm"]), *([show_budget(text)] if record.older else [])}
    if card["eps"] not in known:
        yield f"config.threat.eps: {card['eps']}, is written {show_budget(text, card['norm'])}"
    # Decimals are written with six digits.
    if abs(float(text) - card["eps_value"]) > 1e-5 * card["eps_value"]:
        yield f"config.threat.eps_value: {card['eps_value']}, eps {card['eps']} is {float(text)}"


def check_size(record: Record) -> Iterator[str]:
    """The recorded size of the change is within the budget."""
    size, threat = record.size, _threat(record)
    absent = [name for name in _SIZES if name not in size]
    if absent:
        yield f"size.{absent[0]}: absent; without it the budget cannot be checked"
        return
    levels = size["linf_levels"]
    if threat.norm == "linf":
        allowed = threat.levels if threat.quantize else 255 * (float(threat.eps) + _FLOAT_SLACK)
        if levels > allowed + 1e-3:
            eps = budget_text(record.config["threat"])
            yield f"size.linf_levels: {levels:.4g} levels, the budget {eps} allows {allowed:.4g}"
    elif size["l2"] > float(threat.eps) + _FLOAT_SLACK:
        yield f"size.l2: {size['l2']:.6g} on average, the budget allows {float(threat.eps):.6g} to an image"
    if threat.quantize and abs(levels - round(levels)) > 1e-3:
        yield f"size.linf_levels: {levels:.6g} is not a whole level, and the images are said to be 8-bit"
    for name, (low, high) in _SIZES.items():
        if not low - _ROUNDING <= size[name] <= high + _ROUNDING:
            yield f"size.{name}: {size[name]:.6g} is outside [{low:g}, {high:g}]"


def _threat(record: Record) -> ThreatModel:
    card = record.config["threat"]
    return ThreatModel(Fraction(card["eps_value"]), card["norm"], card["side"], card["quantize"])


@dataclass(frozen=True)
class Declared:
    """Facts about one built-in attack, from the catalogue. ``settings`` below are those of a record."""

    name: str
    facts: Mapping[str, Any]

    def problems(self, settings: Mapping[str, Any]) -> list[str]:
        """Errors in settings, one line each: unknown names, and values that the field refuses."""
        unknown = settings.keys() - self.facts["schemas"]
        found = [f"settings.{name}: {self.name} has no such setting" for name in unknown]
        found += [
            f"settings.{'.'.join(str(part) for part in error.path)}: {_short(error.message)}"
            for error in self._validator.iter_errors(dict(settings))
        ]
        return sorted(found)

    def knowledge(self, settings: Mapping[str, Any]) -> list[str]:
        """What the attacker knows beyond victim and image, sorted."""
        more = [known for choices in self._chosen("knows_more", settings) for known in choices]
        return sorted({*self.facts["knowledge"], *more})

    def tampers(self, settings: Mapping[str, Any]) -> bool:
        """Whether the attack changes features inside the victim, or trains it."""
        return any(self._chosen("tampers", settings))

    def members(self, settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The members of a battery with these settings, as name and settings."""
        return [one for members in self._chosen("members", settings) for one in members]

    def other_version(self, card: Mapping[str, Any]) -> bool:
        """Whether a record's card of the attack states another version of it."""
        # Records of older kinds do not state versions.
        return bool(card.get("version", self.facts["version"]) != self.facts["version"])

    def level(self, settings: Mapping[str, Any]) -> str:
        """What the attacker may change: one of :data:`LEVELS`."""
        if any(self._chosen("retrains", settings)):
            return _MODEL
        return _FEATURE if self.tampers(settings) else _PIXEL

    def label(self, settings: Mapping[str, Any]) -> str:
        """The name with non-default settings; a setting that a record lacks has its default."""
        defaults = self.facts["defaults"]
        return label_of(self.name, {**defaults, **settings}, defaults, self.facts["presets"])

    @property
    def black_box(self) -> bool:
        """Whether the attack sees only embeddings or rankings."""
        return self.facts["needs"] == ["embeddings"]

    @property
    def blind(self) -> bool:
        """Whether the attack does not use the victim at all, like noise."""
        return not self.facts["needs"] and not self.facts["members"]

    @cached_property
    def _validator(self) -> Any:
        # Imported here because it is slow and not always needed.
        from jsonschema import Draft202012Validator

        return Draft202012Validator({"type": "object", "properties": self.facts["schemas"]})

    def _chosen(self, fact: str, settings: Mapping[str, Any]) -> list[Any]:
        """What the chosen values of settings mean for a fact."""
        return [
            answers[settings[name]]
            for name, answers in self.facts[fact].items()
            if isinstance(settings.get(name), str) and settings[name] in answers
        ]


@cache
def declared_attack(name: str) -> Declared | None:
    """Facts about the attack of this name; None if it is not built in."""
    return Declared(name, ATTACKS[name]) if name in ATTACKS else None


def of_library(name: str) -> bool:
    """Whether a name is that of a library's attack: per-image, without further knowledge."""
    return name.partition(":")[0] in LIBRARIES and ":" in name


def _short(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:157]}..."


_PIXEL, _FEATURE, _MODEL = LEVELS = ("pixel", "feature", "model")


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
    if wrong and same_version(record):
        yield from (f"config.attack.{problem}" for problem in wrong)
        return
    expected = {
        "universal": declared.facts["universal"],
        "knowledge": declared.knowledge(card["settings"]),
        "level": declared.level(card["settings"]),
    }
    # Defaults, which a label leaves out, may have been different for an older record or version.
    if not wrong and not record.older and not declared.other_version(card):
        expected["label"] = declared.label(card["settings"])
    for name, value in expected.items():
        if getattr(record, name) != value:
            yield f"{name}: {getattr(record, name)!r}, {card['name']} with these settings has {value!r}"
    norms = declared.facts["norms"]
    if threat["norm"] not in norms:
        yield f"config.threat.norm: {threat['norm']}, {card['name']} works in {', '.join(norms)}"
    if record.config["perturbation"] is not None and not declared.facts["universal"]:
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
    facts = VICTIMS.get(card["name"])
    if facts is None:
        return None
    usual = {name: value for name, value in facts.settings.items() if name in card["options"]}
    name = label_of(card["name"], card["options"], usual, {})
    precision = precision_text(card.get("precision"))
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
    attack = record.config["attack"]
    found = [{part: card[part] for part in ("name", "settings")} for card in attack.get("members", [])]
    known = declared.members(attack["settings"])
    if same_version(record) and not declared.other_version(attack) and found != known:
        yield f"config.attack.members: not the {len(known)} that {declared.name} has"
    if declared.facts["members"] and record.config["threat"]["side"] != "query":
        yield f"config.threat.side: {record.config['threat']['side']}, {declared.name} attacks queries"


def _options(card: Mapping[str, Any], where: str) -> Iterator[str]:
    facts = VICTIMS.get(card["name"])
    if facts is None:
        return
    for name in sorted(card["options"].keys() - {"name", *facts.options}):
        yield f"{where}.options.{name}: {card['name']} has no such option"
    for name in facts.settings.keys() - card["options"].keys():
        yield f"{where}.options.{name}: absent; it chooses what is ranked"


def _surrogate(record: Record) -> Iterator[str]:
    card = record.config.get("surrogate")
    name = card["name"] if card else ""
    if record.surrogate != name:
        yield f"surrogate: {record.surrogate!r}, the configuration says {name!r}"
    if card is None:
        return
    labels = []
    for index, one in enumerate(crafted_on(record)):
        own = str(one["name"])
        given = {"name": own, "options": one}
        yield from _options(given, f"config.surrogate.options.members[{index}]")
        labels.append(victim_label(given) or own)
    if "+".join(labels) != name:
        yield f"config.surrogate.name: {name!r}, its members are {'+'.join(labels)!r}"


def crafted_on(record: Record) -> list[Mapping[str, Any]]:
    """The members of a surrogate, each with its name and options; none if the card lists none."""
    surrogate = record.config.get("surrogate") or {"options": {}}
    members = surrogate["options"].get("members")
    named = isinstance(members, list) and all(isinstance(one, dict) and "name" in one for one in members)
    return members if named else []


def same_version(record: Record) -> bool:
    """Whether this version of vbench made a record, as far as it says."""
    versions = record.environment.get("versions")
    return not isinstance(versions, dict) or versions.get("vbench", __version__) == __version__
