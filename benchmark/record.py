"""The run record: everything a report needs about one run, in one JSON file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vbench.packed import Packed

SCHEMA = 1

#: What a configuration covers, as its key "identity" says; records made before that key existed have none.
IDENTITY = 2

#: A tampered system that loses at most this much Rank-1 on clean images counts as stealthy.
STEALTH_LOSS = 0.02


class TrialMetrics(BaseModel):
    """Ranking metrics of one trial, shares in [0, 1]; means are over queries with a match."""

    model_config = ConfigDict(extra="allow")

    trial: str
    r1: float
    r5: float
    r10: float
    r20: float
    map: float
    minp: float
    queries: int
    skipped: int
    tied_share: float


class ControlRecord(BaseModel):
    """One control of a universal attack, measured like the attack itself."""

    model_config = ConfigDict(extra="allow")

    name: str
    trials: list[TrialMetrics]


class MemberRecord(BaseModel):
    """One member of a battery: its own result, and how often it is the worst.

    ``trials``, ``asr`` and ``cost`` are those of a run of the member alone. ``won``: share of the queries
    with a match whose worst image is this member's. ``won_lost``: its share of the query-trial pairs that
    lose Rank-1 to the battery; None where none is lost. Both add up to 1 over the members.
    """

    model_config = ConfigDict(extra="allow")

    label: str
    universal: bool = False
    knowledge: list[str] = Field(default_factory=list)
    trials: list[TrialMetrics]
    asr: float | None = None
    won: float
    won_lost: float | None = None
    cost: dict[str, float] = Field(default_factory=dict)


class Asked(BaseModel):
    """What a run was given that its configuration cannot tell, for the command that does it again.

    ``synthetic``: the built-in set, of images of ``size`` (H, W), not a folder. ``weights`` and
    ``surrogate_weights``: from files. ``ignore_gates``: the gates were not to stop it.
    """

    model_config = ConfigDict(extra="allow")

    synthetic: bool = False
    size: tuple[int, int] | None = None
    weights: bool = False
    surrogate_weights: bool = False
    ignore_gates: bool = False


class Record(BaseModel):
    """One (dataset and protocol, victim, attack, threat, seed) with its result.

    ``id`` is the hash of ``config``, ``digest`` that of all that the record says (:meth:`seal`), empty in
    records made before there was one. ``label`` names the attack with the settings that are not its defaults,
    ``victim_label`` the victim with the setting of its ranking, ``surrogate`` the victims a transfer attack
    was crafted on.
    ``per_query`` holds arrays of trials x queries: rank of the first match (0: no match in the gallery) and
    average precision (NaN there), clean and adversarial; of a battery also ``member``, whose image the query
    is, a position in ``members``. ``left_out``: members that the victim could not be attacked with, and why.
    Times are seconds, memory is bytes. Unknown fields are kept, missing ones have defaults, so that old and
    new records mix.
    """

    model_config = ConfigDict(extra="allow")

    schema_version: int = SCHEMA
    id: str
    digest: str = ""
    created: str = ""
    config: dict[str, Any]
    asked: Asked | None = None
    protocol: str
    synthetic: bool
    label: str = ""
    victim_label: str = ""
    surrogate: str = ""
    knowledge: list[str] = Field(default_factory=list)
    universal: bool = False
    clean: list[TrialMetrics]
    adversarial: list[TrialMetrics]
    controls: list[ControlRecord] = Field(default_factory=list)
    members: list[MemberRecord] = Field(default_factory=list)
    left_out: dict[str, str] = Field(default_factory=dict)
    level: str = "pixel"
    stealthy: bool | None = None
    asr: float | None = None
    drop_interval: dict[str, tuple[float, float]] = Field(default_factory=dict)
    per_query: dict[str, Packed] = Field(default_factory=dict)
    size: dict[str, float] = Field(default_factory=dict)
    cost: dict[str, float] = Field(default_factory=dict)
    fit_log: dict[str, Any] = Field(default_factory=dict)
    environment: dict[str, Any] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)

    @property
    def file_name(self) -> str:
        """Name of the record's file inside a store."""
        names = "-".join(self.config[part]["name"] for part in ("victim", "attack"))
        return f"{in_file_names(names)}-{self.id}.json"

    @property
    def identity(self) -> int:
        """What kind of configuration it has: :data:`IDENTITY`, or 1 where it does not say."""
        return self.config.get("identity", 1)

    @property
    def older(self) -> bool:
        """Whether its configuration covers less than those of today; it answers no question of today."""
        return self.identity < IDENTITY

    def seal(self) -> None:
        """Set the digest to that of everything else the record says."""
        self.digest = self._digest()

    def fault(self) -> str | None:
        """Why this is not what a run wrote; None if nothing speaks against it."""
        if self.id != config_id(self.config):
            return "its id is not the hash of its configuration"
        if not self.digest:
            return None if self.older else "it has no digest of its content"
        return None if self.digest == self._digest() else "it was changed after it was written"

    def without_queries(self) -> Record:
        """A copy without what is stored of every query, sealed again if the seal was unbroken."""
        copy = self.model_copy(update={"per_query": {}})
        if self.digest and self.digest == self._digest():
            copy.seal()
        return copy

    def _digest(self) -> str:
        # A field with its default says nothing: a later vbench may add one without breaking older seals.
        apart = {"digest", "schema_version", "per_query"}
        said = json.loads(self.model_dump_json(exclude=apart, exclude_defaults=True))
        # Hashed by themselves: they are most of a record, and already text.
        queries = {
            name: [packed.dtype, packed.shape, hashlib.sha256(packed.data.encode()).hexdigest()]
            for name, packed in self.per_query.items()
        }
        whole = {**said, "schema_version": self.schema_version, "per_query": queries}
        return hashlib.sha256(canonical(whole).encode()).hexdigest()

    def mean(self, which: str, metric: str) -> float:
        """Mean over trials of a metric of "clean" or "adversarial", in [0, 1]."""
        trials = getattr(self, which)
        return sum(getattr(trial, metric) for trial in trials) / len(trials)


def in_file_names(name: str) -> str:
    """A name of anybody's as part of a file's: letters, digits, "_" and "-", at most 80.

    >>> in_file_names("../mine")
    '---mine'
    """
    return "".join(c if (c.isalnum() and c.isascii()) or c in "_-" else "-" for c in name)[:80]


def precision_text(card: Mapping[str, Any] | None) -> str:
    """How a victim computes, from ``precision`` of its card; empty where there is nothing to say.

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
    """JSON-able content as text: equal for equal content, however it was written down or ordered.

    >>> canonical({"b": 1.0, "a": (2,)}) == canonical({"a": [2], "b": 1})
    True
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    # JSON has one kind of number: 1.0 is 1.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def config_id(config: dict[str, Any]) -> str:
    """Twelve hexadecimal digits that name a configuration; equal configurations have equal ids."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
