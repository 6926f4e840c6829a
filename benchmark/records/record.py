"""The run record: configuration, results and cost, and checks of its types, ranges and sizes."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from vbench.core.errors import BadInput
from vbench.core.threat import parse_budget

#: Largest size of one unpacked array in bytes.
LIMIT = 1 << 28


class CompressedArray(BaseModel):
    """One array: ``dtype`` and ``shape`` as in NumPy, ``data`` as base64 of zlib-compressed bytes."""

    dtype: Literal["<i4", "<f4"]
    shape: tuple[int, ...]
    data: str

    @classmethod
    def pack(cls, array: Any) -> CompressedArray:
        """Pack integers as 32-bit integers, anything else as 32-bit floats."""
        array = np.asarray(array)
        array = array.astype("<i4" if np.issubdtype(array.dtype, np.integer) else "<f4")
        raw = zlib.compress(np.ascontiguousarray(array).tobytes(), 6)
        return cls(dtype=array.dtype.str, shape=array.shape, data=base64.b64encode(raw).decode())

    def unpack(self) -> np.ndarray:
        """The array; raises :class:`BadInput` if the data is broken or does not fit the shape."""
        try:
            size = math.prod(self.shape) * 4
            # The limit keeps a malicious record from filling memory.
            raw = zlib.decompressobj().decompress(
                base64.b64decode(self.data, validate=True), min(size, LIMIT) + 1
            )
            return np.frombuffer(raw, self.dtype).reshape(self.shape)
        except (ValueError, OverflowError, zlib.error) as error:
            raise BadInput(f"a packed array of a record is broken: {error}") from error


SCHEMA = 1

#: Version of what a configuration covers, stored under its key "identity"; the oldest records lack the key.
IDENTITY = 2

#: An attack on a victim's features is stealthy if Rank-1 on clean images drops by at most this much.
STEALTH_LOSS = 0.02


def loses(before: float, after: float) -> bool:
    """Whether Rank-1 falls by more than :data:`STEALTH_LOSS`; what rounding of means adds does not count."""
    return before - after > STEALTH_LOSS + 1e-9


_ROUNDING = 1e-6

_MOST_QUERIES = 10**7

Finite = Annotated[float, Field(allow_inf_nan=False)]

Share = Annotated[float, Field(ge=-_ROUNDING, le=1 + _ROUNDING, allow_inf_nan=False)]

_Count = Annotated[int, Field(ge=0, le=_MOST_QUERIES)]

_Name = Annotated[str, Field(max_length=2000)]

_Size = Annotated[list[Annotated[int, Field(gt=0, lt=10**6)]], Field(min_length=2, max_length=2)]

# An id is part of file names.
_ID = re.compile(r"(?!\.)[^/\\\x00-\x1f\x7f-\x9f]{1,200}")


def _wrong(reason: str) -> PydanticCustomError:
    return PydanticCustomError("record", "{reason}", {"reason": reason})


def _file_name(name: str) -> str:
    if not _ID.fullmatch(name):
        raise _wrong(f"{name[:40]!r} cannot be part of a file name")
    return name


_TYPES = {
    "clean_rank": "<i4",
    "adversarial_rank": "<i4",
    "member": "<i4",
    "clean_ap": "<f4",
    "adversarial_ap": "<f4",
}


def _trials_by_queries(packed: CompressedArray) -> CompressedArray:
    shape = packed.shape
    if len(shape) != 2 or not all(0 < length <= _MOST_QUERIES for length in shape):
        raise _wrong(f"{packed.dtype} of shape {str(shape)[:60]}, not trials x queries")
    if 4 * shape[0] * shape[1] > LIMIT:
        raise _wrong(f"{packed.dtype} of shape {shape}, more values than any set has queries")
    return packed


def _fit_together(arrays: dict[str, CompressedArray]) -> dict[str, CompressedArray]:
    for name, packed in arrays.items():
        if packed.dtype != _TYPES.get(name, packed.dtype):
            raise _wrong(f"per_query.{name} is {packed.dtype}, should be {_TYPES[name]}")
    if len({packed.shape for packed in arrays.values()}) > 1:
        raise _wrong("arrays of different shapes")
    return arrays


_Arrays = Annotated[
    dict[str, Annotated[CompressedArray, AfterValidator(_trials_by_queries)]], AfterValidator(_fit_together)
]


class TrialMetrics(BaseModel):
    """Ranking metrics of one trial, in [0, 1]; means are over queries with a match."""

    model_config = ConfigDict(extra="allow")

    trial: str
    r1: Share
    r5: Share
    r10: Share
    r20: Share
    map: Share
    minp: Share
    queries: _Count
    skipped: _Count
    tied_share: Share


Trials = Annotated[list[TrialMetrics], Field(min_length=1)]


class ControlRecord(BaseModel):
    """One control of a universal attack, measured like the attack itself."""

    model_config = ConfigDict(extra="allow")

    name: str
    trials: Trials


class MemberRecord(BaseModel):
    """One member of a battery: its own result, and how often its image is the worst.

    ``trials``, ``asr`` and ``cost`` are those of a run of the member alone. ``won``: share of the queries
    with a match whose worst image is this member's. ``won_lost``: the same share among the query-trial pairs
    that lose Rank-1 to the battery; None if none does. Both sum to 1 over the members.
    """

    model_config = ConfigDict(extra="allow")

    label: str
    universal: bool = False
    knowledge: list[str] = Field(default_factory=list)
    trials: Trials
    asr: Share | None = None
    won: Share
    won_lost: Share | None = None
    cost: dict[str, Finite] = Field(default_factory=dict)


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

    @field_validator("eps")
    @classmethod
    def _is_budget(cls, value: str, info: ValidationInfo) -> str:
        reason = _unreadable(value, info.data.get("norm", "linf"))
        if reason:
            raise _wrong(reason)
        return value


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


@lru_cache(maxsize=256)
def _unreadable(eps: str, norm: str) -> str | None:
    try:
        parse_budget(eps, norm)
    except BadInput as error:
        return str(error)
    return None


def _as_given(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    check(value)
    return dict(value)


if TYPE_CHECKING:
    Config = dict[str, Any]
else:
    #: A configuration, checked, and left as it is: its hash is the record's id.
    Config = Annotated[_Config, WrapValidator(_as_given), PlainSerializer(lambda value: value)]


class Asked(BaseModel):
    """Inputs of a run that are not in its configuration, needed for the command that repeats it.

    ``synthetic``: the built-in set with images of ``size`` (H, W), not a folder. ``weights`` and
    ``surrogate_weights``: given as files. ``ignore_gates``: the option of that name was given.
    """

    model_config = ConfigDict(extra="allow")

    synthetic: bool = False
    size: tuple[int, int] | None = None
    weights: bool = False
    surrogate_weights: bool = False
    ignore_gates: bool = False


class Record(BaseModel):
    """One (dataset and protocol, victim, attack, threat, seed) with its result.

    ``id`` is the hash of ``config``, ``digest`` that of the whole record (:meth:`seal`), empty in the oldest
    records. ``label`` names the attack with the settings that are not its defaults, ``victim_label`` the
    victim with the setting of its ranking, ``surrogate`` the victims a transfer attack was crafted on.
    ``per_query`` holds arrays of trials x queries: rank of the first match (0: no match in the gallery) and
    average precision (NaN there), clean and adversarial; for a battery also ``member``, the position in
    ``members`` of the one whose image was used. ``chance``: what a random order of the gallery is expected to
    reach, by metric, mean over trials; empty in older records. ``left_out``: members that cannot attack this
    victim -> why. Times are in seconds, memory in bytes. Unknown fields are kept and missing ones have
    defaults, so that records of different versions can be read together. Whether the results are plausible is
    checked in ``vbench.reports.verify``.
    """

    model_config = ConfigDict(extra="allow")

    schema_version: int = SCHEMA
    id: Annotated[str, AfterValidator(_file_name)]
    digest: str = ""
    created: str = ""
    config: Config
    asked: Asked | None = None
    protocol: str
    synthetic: bool
    label: str = ""
    victim_label: str = ""
    surrogate: str = ""
    knowledge: list[str] = Field(default_factory=list)
    universal: bool = False
    clean: Trials
    adversarial: Trials
    controls: list[ControlRecord] = Field(default_factory=list)
    members: list[MemberRecord] = Field(default_factory=list)
    left_out: dict[str, str] = Field(default_factory=dict)
    level: str = "pixel"
    stealthy: bool | None = None
    verdict: str = ""
    asr: Share | None = None
    chance: dict[str, Share] = Field(default_factory=dict)
    drop_interval: dict[str, tuple[Finite, Finite]] = Field(default_factory=dict)
    per_query: _Arrays = Field(default_factory=dict)
    size: dict[str, Finite] = Field(default_factory=dict)
    cost: dict[str, Finite] = Field(default_factory=dict)
    fit_log: dict[str, Any] = Field(default_factory=dict)
    environment: dict[str, Any] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _same_trials(self) -> Record:
        if len(self.clean) != len(self.adversarial):
            raise _wrong(f"adversarial: {len(self.adversarial)} trials, clean has {len(self.clean)}")
        return self

    @property
    def file_name(self) -> str:
        """Name of the record's file inside a store."""
        names = "-".join(self.config[part]["name"] for part in ("victim", "attack"))
        return f"{in_file_names(names)}-{self.id}.json"

    @property
    def victim_name(self) -> str:
        """The victim's name in tables and figures; older records have no label of it."""
        return self.victim_label or self.config["victim"]["name"]

    @property
    def identity(self) -> int:
        """Version of its configuration: :data:`IDENTITY` in new records, 1 if the key is missing."""
        return self.config.get("identity", 1)

    @property
    def older(self) -> bool:
        """Whether its configuration is of an older version, so that no run reuses the record."""
        return self.identity < IDENTITY

    @property
    def seconds(self) -> float:
        """Time of learning, attacking, and of training the controls where the attacker trains the victim."""
        return sum(self.cost.get(f"{part}_seconds", 0.0) for part in ("fit", "attack", "control"))

    def seal(self) -> None:
        """Set ``digest`` to the hash of all other fields."""
        self.digest = self._digest()

    def fault(self) -> str | None:
        """Why this is not a record as a run wrote it (id or digest do not fit); None if they fit."""
        if self.id != config_id(self.config):
            return "its id is not the hash of its configuration"
        if not self.digest:
            return None if self.older else "it has no digest of its content"
        return None if self.digest == self._digest() else "it was changed after it was written"

    def without_queries(self) -> Record:
        """A copy without ``per_query``, with a new digest if the old one was valid."""
        copy = self.model_copy(update={"per_query": {}})
        if self.digest and self.digest == self._digest():
            copy.seal()
        return copy

    def _digest(self) -> str:
        # Defaults are left out, so that a new field does not invalidate the digests of older records.
        apart = {"digest", "schema_version", "per_query"}
        fields = json.loads(self.model_dump_json(exclude=apart, exclude_defaults=True))
        # Hashed separately for speed: they are most of a record, and already text.
        queries = {
            name: [packed.dtype, packed.shape, hashlib.sha256(packed.data.encode()).hexdigest()]
            for name, packed in self.per_query.items()
        }
        whole = {**fields, "schema_version": self.schema_version, "per_query": queries}
        return hashlib.sha256(canonical(whole).encode()).hexdigest()

    def mean(self, which: str, metric: str) -> float:
        """Mean over trials of a metric of "clean" or "adversarial", in [0, 1]."""
        trials = getattr(self, which)
        return sum(getattr(trial, metric) for trial in trials) / len(trials)


def in_file_names(name: str) -> str:
    """An untrusted name as part of a file name: at most 80 letters, digits, "_" and "-".

    >>> in_file_names("../mine")
    '---mine'
    """
    return "".join(c if (c.isalnum() and c.isascii()) or c in "_-" else "-" for c in name)[:80]


def precision_text(card: Mapping[str, Any] | None) -> str:
    """How a victim computes, from ``precision`` of its card; empty for plain float32.

    >>> precision_text({"dtype": "bfloat16", "channels_last": True})
    'bfloat16, channels-last'
    """
    card = card or {}
    dtype, weights = card.get("dtype", "float32"), card.get("parameters", "float32")
    products = card.get("float32", {}).get("matmul", "ieee")
    more = [
        *(["channels-last"] if card.get("channels_last") else []),
        *([f"{weights} weights"] if weights != "float32" else []),
        *([f"{products} products"] if products != "ieee" else []),
    ]
    return ", ".join([dtype, *more]) if more or dtype != "float32" else ""


def canonical(value: Any) -> str:
    """JSON-able content as text: equal for equal content, whatever its number types and key order.

    >>> canonical({"b": 1.0, "a": (2,)}) == canonical({"a": [2], "b": 1})
    True
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    # JSON has one number type: 1.0 is 1.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def config_id(config: dict[str, Any]) -> str:
    """Twelve hexadecimal digits that name a configuration; equal configurations have equal ids."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Failure:
    """A failed run. ``reason``: one line, with file and line if the code of an attack or a victim raised."""

    victim: str
    attack: str
    seed: int
    reason: str

    def __str__(self) -> str:
        return f"{self.victim}, {self.attack}, seed {self.seed}: {self.reason}"
