"""Does a record have the shape that its readers rely on? Records come from anywhere.

What stands in a record is checked elsewhere, by those who publish it (:mod:`vbench.reports.verify`); here
only that nobody who reads it stumbles. Old records, and fields that are not known, pass.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vbench.budget import parse_budget
from vbench.errors import BadInput
from vbench.packed import LIMIT
from vbench.record import Record, TrialMetrics

# An id is part of names of files.
_ID = re.compile(r"(?!\.)[^/\\\x00-\x1f\x7f-\x9f]{1,200}")
_SHARES = ("r1", "r5", "r10", "r20", "map", "minp", "tied_share")
_ROUNDING = 1e-6
_MOST_QUERIES = 10**7
_TYPES = {
    "clean_rank": "<i4",
    "adversarial_rank": "<i4",
    "member": "<i4",
    "clean_ap": "<f4",
    "adversarial_ap": "<f4",
}

_Name = Annotated[str, Field(max_length=2000)]
_Size = Annotated[list[Annotated[int, Field(gt=0, lt=10**6)]], Field(min_length=2, max_length=2)]


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Member(_Open):
    name: _Name
    input_size: _Size = Field(default_factory=list)


class _Options(_Open):
    input_size: _Size = Field(default_factory=list)
    members: list[_Member] = Field(default_factory=list)


class _Precision(_Open):
    dtype: _Name = "float32"
    autocast: bool = True
    parameters: _Name = "float32"
    channels_last: bool = False
    float32: dict[str, _Name] = Field(default_factory=dict)


class _Victim(_Open):
    name: _Name
    weights: _Name
    options: _Options = Field(default_factory=_Options)
    precision: _Precision | None = None


class _Dataset(_Open):
    name: _Name
    fingerprint: _Name
    protocol: _Name = ""


class _Attack(_Open):
    name: _Name
    settings: dict[str, Any] = Field(default_factory=dict)
    members: list[dict[str, Any]] = Field(default_factory=list)


class _Threat(_Open):
    norm: Literal["linf", "l2"]
    eps: _Name
    eps_value: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    side: Literal["query", "gallery", "both"]
    quantize: bool


class _Surrogate(_Open):
    weights: _Name = ""
    options: _Options = Field(default_factory=_Options)


class _Config(_Open):
    identity: Annotated[int, Field(ge=1)] = 1
    victim: _Victim
    dataset: _Dataset
    attack: _Attack
    threat: _Threat
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    perturbation: _Name | None = None
    surrogate: _Surrogate | None = None


def misshapen(record: Record) -> str | None:
    """The first thing about a record that its readers could not take, None if there is nothing."""
    return next(_problems(record), None)


def _problems(record: Record) -> Iterator[str]:
    if not _ID.fullmatch(record.id):
        yield f"id: {record.id[:40]!r} names no file"
    try:
        _Config.model_validate(record.config)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in ("config", *first["loc"]))
        yield f"{where}: {first['msg']}"
        return
    yield from _budget(record.config["threat"]["eps"], record.config["threat"]["norm"])
    if len(record.clean) != len(record.adversarial):
        yield f"adversarial: {len(record.adversarial)} trials, clean has {len(record.clean)}"
    for where, trials in _lists(record):
        if not trials:
            yield f"{where}: no trial"
        for index, trial in enumerate(trials):
            yield from _trial(f"{where}.{index}", trial)
    numbers = [("size", record.size), ("cost", record.cost)]
    numbers += [(f"members.{index}.cost", member.cost) for index, member in enumerate(record.members)]
    for where, found in numbers:
        yield from (f"{where}.{name}: not finite" for name in found if not math.isfinite(found[name]))
    for name, ends in record.drop_interval.items():
        if not all(map(math.isfinite, ends)):
            yield f"drop_interval.{name}: not finite"
    shares = [("asr", record.asr)]
    for index, member in enumerate(record.members):
        named = (("asr", member.asr), ("won", member.won), ("won_lost", member.won_lost))
        shares += [(f"members.{index}.{name}", value) for name, value in named]
    yield from (f"{where}: no share" for where, value in shares if value is not None and not _share(value))
    yield from _arrays(record)


@lru_cache(maxsize=256)
def _readable(eps: str, norm: str) -> str | None:
    try:
        parse_budget(eps, norm)
    except BadInput as error:
        return str(error)
    return None


def _budget(eps: str, norm: str) -> Iterator[str]:
    reason = _readable(eps, norm)
    if reason is not None:
        yield f"config.threat.eps: {reason}"


def _lists(record: Record) -> Iterator[tuple[str, list[TrialMetrics]]]:
    yield "clean", record.clean
    yield "adversarial", record.adversarial
    yield from ((f"controls.{index}", one.trials) for index, one in enumerate(record.controls))
    yield from ((f"members.{index}", one.trials) for index, one in enumerate(record.members))


def _trial(where: str, trial: TrialMetrics) -> Iterable[str]:
    for name in _SHARES:
        if not _share(getattr(trial, name)):
            yield f"{where}.{name}: no share"
    for name in ("queries", "skipped"):
        if not 0 <= getattr(trial, name) <= _MOST_QUERIES:
            yield f"{where}.{name}: no number of queries"


def _share(value: float) -> bool:
    return -_ROUNDING <= value <= 1 + _ROUNDING


def _arrays(record: Record) -> Iterator[str]:
    for name, packed in record.per_query.items():
        if packed.dtype != _TYPES.get(name, packed.dtype):
            yield f"per_query.{name}: {packed.dtype}, should be {_TYPES[name]}"
    shapes = {packed.shape for packed in record.per_query.values()}
    for shape in shapes:
        if len(shape) != 2 or not all(0 < length <= _MOST_QUERIES for length in shape):
            yield f"per_query: of shape {str(shape)[:60]}, not trials x queries"
        elif 4 * shape[0] * shape[1] > LIMIT:
            yield "per_query: more values than any set has queries"
    if len(shapes) > 1:
        yield "per_query: arrays of different shapes"
