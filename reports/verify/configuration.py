"""Checks of a record's configuration, id, protocol and budget."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vbench.core.errors import BadInput
from vbench.core.threat import ThreatModel, budget_text, parse_budget, show_budget
from vbench.data.protocols import DRAWS, LAYOUTS, Protocol, parse_protocol
from vbench.data.registry import DATASETS
from vbench.records.record import Record, config_id

_Name = Annotated[str, Field(min_length=1, max_length=300)]

_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


_Type = Literal["float32", "bfloat16", "float16", "float64"]


class _Products(_Strict):
    matmul: Literal["ieee", "tf32", "bf16"]
    convolution: Literal["ieee", "tf32", "bf16"]


class _Precision(_Strict):
    dtype: _Type
    autocast: bool
    parameters: Annotated[str, Field(pattern=r"^b?float\d+(\+b?float\d+)*$")]
    channels_last: bool
    float32: _Products


class _FormerPrecision(_Strict):
    dtype: Literal["float32", "bfloat16", "float16"]
    channels_last: bool


class _Code(_Strict):
    """Identity of the code: the version of vbench's own classes, a hash of the source of others."""

    version: Annotated[int, Field(ge=1)] | None = None
    source: _Hash | None = None
    library: Annotated[str, Field(pattern=r"^[a-z0-9.-]+ [\w.+!-]+$")] | None = None


class _Inner(_Code):
    name: _Name


class _Victim(_Code):
    name: _Name
    options: dict[str, Any]
    weights: _Hash
    structure: _Hash | None = None
    members: list[_Inner] = Field(default_factory=list)
    precision: _Precision


class _FormerVictim(_Strict):
    name: _Name
    options: dict[str, Any]
    weights: _Hash
    precision: _FormerPrecision | None = None


class _Dataset(_Strict):
    name: _Name
    protocol: _Name
    split: str
    synthetic: bool
    fingerprint: _Hash
    training: _Hash | None = None
    source: _Hash | None = None


class _FormerDataset(_Strict):
    name: _Name
    protocol: _Name
    split: str
    synthetic: bool
    training: _Hash
    fingerprint: _Hash


class _Attack(_Code):
    name: _Name
    settings: dict[str, Any]
    members: list[_Attack] = Field(default_factory=list)


class _FormerAttack(_Strict):
    name: _Name
    settings: dict[str, Any]
    members: list[_FormerAttack] = Field(default_factory=list)


class _Threat(_Strict):
    norm: Literal["linf", "l2"]
    eps: str
    eps_value: Annotated[float, Field(gt=0)]
    side: Literal["query", "gallery", "both"]
    quantize: bool


class _Common(_Strict):
    threat: _Threat
    seed: Annotated[int, Field(ge=0)]
    perturbation: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None


class _Config(_Common):
    identity: Literal[2]
    victim: _Victim
    dataset: _Dataset
    attack: _Attack
    surrogate: _Victim | None = None


class _FormerConfig(_Common):
    """Configurations of the older kind, without a field for their kind."""

    victim: _FormerVictim
    dataset: _FormerDataset
    attack: _FormerAttack
    surrogate: _FormerVictim | None = None


def problems(config: dict[str, Any]) -> list[str]:
    """Errors in the structure of a configuration, one line each."""
    try:
        (_Config if "identity" in config else _FormerConfig).model_validate(config)
    except ValidationError as error:
        return [
            f"config.{'.'.join(str(part) for part in one['loc'])}: {one['msg']}, found {one['input']!r:.60}"
            for one in error.errors(include_url=False)[:5]
        ]
    return []


_SPLITS = {"sysu": "sysu", "llcm": "llcm"}


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
    split = _SPLITS.get(protocol.layout, f"{protocol.layout}/trial-{protocol.trial}")
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


_FIGURES = ("linf_levels", "l2", "psnr_db", "ssim", "changed_share")

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
    """The recorded size of the change is consistent and within the budget."""
    size, threat = record.size, _threat(record)
    absent = [name for name in _FIGURES if name not in size]
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
    yield from _possible(size)
    yield from _asked(size, threat)
    yield from _together(record)


def _possible(size: dict[str, float]) -> Iterator[str]:
    ranges = {"linf_levels": (0, 255), "psnr_db": (0, 100), "ssim": (-1, 1), "changed_share": (0, 1)}
    for name, (low, high) in {**ranges, "l2": (0, math.inf)}.items():
        if not low - _ROUNDING <= size[name] <= high + _ROUNDING:
            yield f"size.{name}: {size[name]:.6g} is outside [{low}, {high}]"


def _asked(size: dict[str, float], threat: ThreatModel) -> Iterator[str]:
    """Projecting and rounding do not enlarge the change that the attack returned."""
    asked = size.get("asked")
    if asked is None:
        return
    if threat.norm == "linf":
        most, name, shown = asked * 255 * threat.epsilon + 0.5 * threat.quantize, "linf_levels", "levels"
    else:
        most, name, shown = asked * threat.epsilon, "l2", "in L2"
    if not size[name] <= most + 1e-3:
        yield f"size.asked: {asked:.4g} budgets returned by the attack, but {size[name]:.4g} {shown} recorded"


def _together(record: Record) -> Iterator[str]:
    """Bounds between the sizes, each from convexity over the images."""
    size, pixels = record.size, _values(record)
    if pixels is None:
        return
    largest, l2, changed = size["linf_levels"] / 255, size["l2"], min(size["changed_share"], 1.0)
    most = largest * math.sqrt(pixels * max(changed, 0.0))
    if l2 > most * (1 + _ROUNDING) + _ROUNDING:
        yield f"size.l2: {l2:.6g}, at most {most:.6g} with the stated linf_levels and changed_share"
    if l2 <= 0:
        return
    least = 10 * math.log10(pixels) - 20 * math.log10(l2)
    # Unchanged images count as 100 dB, so the bound does not hold near there.
    if least < 90 and size["psnr_db"] < least - 0.01:
        yield f"size.psnr_db: {size['psnr_db']:.4g}, at least {least:.4g} with the stated l2"


def _values(record: Record) -> int | None:
    """Number of values in one image, from the victim's input size."""
    shape = record.config["victim"]["options"].get("input_size")
    if isinstance(shape, list) and len(shape) == 2 and all(type(n) is int and n > 0 for n in shape):
        return 3 * shape[0] * shape[1]
    return None


def _threat(record: Record) -> ThreatModel:
    card = record.config["threat"]
    return ThreatModel(Fraction(card["eps_value"]), card["norm"], card["side"], card["quantize"])
