"""The contents of a suite file, validated."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    StrictInt,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from vbench.attacks.registry import attacks
from vbench.core.errors import VbenchError, unknown_name
from vbench.core.registry import Registry
from vbench.core.seeds import SEEDS
from vbench.core.settings import LARGEST_SIDE, parse, parse_size
from vbench.core.threat import ThreatModel, parse_budget
from vbench.core.types import Side
from vbench.data.protocols import LAYOUTS, SYNTHETIC, check_name, default_protocol, parse_protocol
from vbench.records.spec import NONE, OPTIONS, Option
from vbench.victims.registry import victims

T = TypeVar("T")


def complaint(reason: object, *place: str | int) -> PydanticCustomError:
    """An error for a validator to raise; ``place`` is relative to the validated value."""
    return PydanticCustomError("vbench", "{reason}", {"reason": str(reason), "place": place})


def as_validator(call: Callable[..., T], *arguments: Any, place: Sequence[str | int] = ()) -> T:
    """Call a function inside a validator; a :class:`VbenchError` becomes a :func:`complaint`."""
    try:
        return call(*arguments)
    except VbenchError as error:
        raise complaint(error, *place) from error


def one_of(kind: str, known: Iterable[str]) -> Callable[[Any], str]:
    """A validator that accepts one of some words; its error names the nearest one."""
    words = tuple(known)

    def check(value: Any) -> str:
        if value not in words:
            raise complaint(unknown_name(kind, str(value), words))
        return value

    return check


def as_list(value: Any) -> Any:
    """Turn a single value into a list; an empty list is refused."""
    listed = value if isinstance(value, list | tuple) else [value]
    if not listed:
        raise complaint("an empty list; leave the key out or name something")
    return listed


class Strict(BaseModel):
    """A mapping with known keys. ``SHORT``: the key that is meant if only a text is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        short = getattr(cls, "SHORT", None)
        if short and isinstance(value, str):
            return {short: value}
        if isinstance(value, dict):
            for key in value:
                if key not in cls.model_fields:
                    raise complaint(unknown_name("key", key, cls.model_fields), key)
        return value


def _known(registry: Registry[Any]) -> AfterValidator:
    def check(value: str) -> str:
        name, _ = as_validator(parse, value, registry.kind)
        if name != "all":
            as_validator(registry.entry, name)
        return registry.canonical(value)

    return AfterValidator(check)


Words = Annotated[list[str], BeforeValidator(as_list)]


def setting_text(value: Any) -> str:
    """A value of a suite as text for ``--set``: commas in lists, true, false, none."""
    if isinstance(value, list):
        return ",".join(setting_text(part) for part in value)
    if isinstance(value, dict):
        raise complaint("a setting is a value or a list of values, not a mapping")
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _texts(value: Any) -> Any:
    return {key: setting_text(one) for key, one in value.items()} if isinstance(value, dict) else value


Settings = Annotated[dict[str, str], BeforeValidator(_texts)]


def _with_settings(name: str, settings: dict[str, str]) -> str:
    inside = ",".join(f"{key}={value}" for key, value in settings.items())
    return f"{name}[{inside}]" if inside else name


class AttackEntry(Strict):
    """An attack: ``pgd``, ``pgd[steps=20]``, or its name with ``settings`` as a mapping; or ``all``."""

    SHORT: ClassVar[str] = "name"

    name: Annotated[str, _known(attacks)]
    settings: Settings = Field(default_factory=dict)

    def spec(self, common: dict[str, str]) -> tuple[str, dict[str, str]]:
        """Name and settings; those of the entry take precedence over the suite's ``common`` ones."""
        name, inside = parse(self.name, "attack")
        return name, {**common, **inside, **self.settings}


class VictimEntry(Strict):
    """A victim: ``agw``, ``deen[embedding=weighted]``, or its name with ``options`` as a mapping; or ``all``.

    ``weights`` is one checkpoint, or one for each dataset label or protocol id.
    """

    SHORT: ClassVar[str] = "name"

    name: Annotated[str, _known(victims)]
    options: Settings = Field(default_factory=dict)
    weights: dict[str, str] = Field(default_factory=dict)

    @field_validator("weights", mode="before")
    @classmethod
    def _by_dataset(cls, value: Any) -> Any:
        return {"": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _all_has_none(self) -> VictimEntry:
        if self.name == "all" and self.weights:
            raise complaint("weights belong to one victim, not to 'all'", "weights")
        return self

    def texts(self) -> list[str]:
        """The victims that are meant, with their options."""
        name, inside = parse(self.name, "victim")
        names = victims.names() if name == "all" else [name]
        return [_with_settings(one, {**inside, **self.options}) for one in names]

    def weights_for(self, label: str, protocol: str) -> str | None:
        """The checkpoint for a dataset under a protocol; None for a thin victim."""
        return next((self.weights[key] for key in (protocol, label, "") if key in self.weights), None)


def _size(value: Any) -> Any:
    return as_validator(parse_size, value) if isinstance(value, str) else value


def _dataset(value: Any) -> str:
    return as_validator(check_name, value)


class DatasetEntry(Strict):
    """A dataset with its ``protocols``: ``synthetic`` (``layout``, ``size``), or a name with ``root``.

    The name is a layout's, an installed reader's, or ``./file.py:Class``.
    """

    SHORT: ClassVar[str] = "name"

    name: Annotated[str, BeforeValidator(_dataset)] = SYNTHETIC
    label: str = Field(default="", max_length=80)
    root: str | None = None
    layout: Annotated[str, BeforeValidator(one_of("dataset layout", LAYOUTS))] = "sysu"
    size: Annotated[tuple[int, int] | None, BeforeValidator(_size)] = None
    protocols: Words = Field(default_factory=list)

    @model_validator(mode="after")
    def _fits(self) -> DatasetEntry:
        synthetic = self.name == SYNTHETIC
        if not synthetic and self.root is None:
            raise complaint(f"dataset '{self.name}' needs a root, the folder its owner ships")
        if synthetic and self.root is not None:
            raise complaint("root is for real data; name its layout: sysu, regdb or llcm", "root")
        if self.size is not None and max(self.size) > LARGEST_SIDE:
            raise complaint(f"images of {max(self.size)} pixels; at most {LARGEST_SIDE} are allowed", "size")
        if not synthetic and "layout" in self.model_fields_set and self.layout != self.name:
            raise complaint(f"layout is for synthetic data; this one is '{self.name}'", "layout")
        layout = self.layout if synthetic else self.name
        # The protocols of a reader are not known until it is loaded.
        for index, text in enumerate(self.protocols if layout in LAYOUTS else ()):
            if as_validator(parse_protocol, text, place=("protocols", index)).layout != layout:
                raise complaint(f"'{text}' is no protocol of '{layout}'", "protocols", index)
        return self

    @property
    def called(self) -> str:
        """The label, or else the name."""
        return self.label or self.name

    @property
    def protocol_ids(self) -> list[str]:
        """The given protocols, or the layout's default; "" for a reader's default."""
        layout = self.layout if self.name == SYNTHETIC else self.name
        return self.protocols or [default_protocol(layout) if layout in LAYOUTS else ""]


class Exclusion(Strict):
    """Excludes the runs that match every given key. A name matches with any settings."""

    victim: Words | None = None
    attack: Words | None = None
    dataset: Words | None = None
    protocol: Words | None = None
    surrogate: Words | None = None
    eps: Annotated[list[str | float], BeforeValidator(as_list)] | None = None
    side: Words | None = None
    seed: Annotated[list[StrictInt], BeforeValidator(as_list)] | None = None

    @model_validator(mode="after")
    def _is_not_empty(self) -> Exclusion:
        if not self.given:
            raise complaint("an empty rule would exclude everything")
        for index, text in enumerate(self.eps or ()):
            as_validator(parse_budget, text, "l2", place=("eps", index))
        return self

    @property
    def given(self) -> dict[str, list[Any]]:
        """The given keys with their values."""
        return {name: value for name, value in self if value is not None}


class Resources(Strict):
    """``cpus``, ``gpus`` (fractions on Ray) and ``memory`` of one run; ``jobs`` at once; ``retries``."""

    jobs: Annotated[StrictInt, Field(ge=1, le=1024)] | None = None
    cpus: Annotated[float, Field(gt=0, le=4096)] | None = None
    gpus: Annotated[float, Field(ge=0, le=64)] | None = None
    memory: ByteSize | None = None
    retries: Annotated[StrictInt, Field(ge=0, le=100)] = 1

    @field_validator("jobs", "cpus", "gpus", "retries", mode="before")
    @classmethod
    def _no_boolean(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise complaint("a number is needed")
        return value

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise complaint("more than one GPU must be a whole number of them")
        return value


PRECISIONS = ("auto", "float32", "bfloat16", "float16")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def _surrogate(value: Any) -> Any:
    """``none`` becomes an empty list, one victim a list of one; a list is an ensemble."""
    return [] if value is None or value == NONE else as_list(value)


Budget = Annotated[str, BeforeValidator(setting_text)]

Ensemble = Annotated[list[VictimEntry], BeforeValidator(_surrogate)]


def _white_box() -> list[list[VictimEntry]]:
    return [[]]


#: What a suite says of a run in a key of its own form (entries, lists and what they hold), or not at all: a
#: suite learns what it applies, and a file that runs code is named on the command line.
_OWN = (
    *("victim", "attack", "settings", "dataset", "root", "layout", "size", "protocol", "weights", "eps"),
    *("side", "surrogate", "surrogate_weights", "seed", "perturbation", "allow_code"),
)

#: The options of a run that a suite takes as they are; in a suite a number of a device has no meaning.
SHARED = {name: option for name, option in OPTIONS.items() if name not in _OWN}

_KINDS = {
    "norm": Annotated[str, BeforeValidator(one_of("norm", ("linf", "l2")))],
    "precision": Annotated[str, BeforeValidator(one_of("precision", PRECISIONS))],
    "device": Literal["auto", "cpu", "cuda"],
}


def _key_of(name: str, option: Option) -> Any:
    kind = _KINDS.get(name, option.kind)
    limits = Field(option.default, strict=None if name in _KINDS else True, ge=option.least)
    return kind | None if option.default is None else kind, limits


if TYPE_CHECKING:
    _Shared: Any = Strict
else:
    _Shared = create_model(
        "_Shared", __base__=Strict, **{name: _key_of(name, option) for name, option in SHARED.items()}
    )


class Suite(_Shared):
    """Victims x surrogates x attacks x datasets and protocols x eps x side x seeds, without excluded runs.

    A list of one may be written as its value. ``eps`` and ``side`` default to the attack's preset, else to
    8/255 and query. ``settings`` apply to every attack that does not set them itself.
    """

    name: str = ""
    victims: Annotated[list[VictimEntry], BeforeValidator(as_list)]
    attacks: Annotated[list[AttackEntry], BeforeValidator(as_list)]
    datasets: Annotated[list[DatasetEntry], BeforeValidator(as_list)] = Field(
        default_factory=lambda: [DatasetEntry()]
    )
    surrogates: Annotated[list[Ensemble], BeforeValidator(as_list)] = Field(default_factory=_white_box)
    eps: Annotated[list[Budget], BeforeValidator(as_list)] = Field(default_factory=list)
    side: Annotated[
        list[Annotated[str, BeforeValidator(one_of("side", [side.value for side in Side]))]],
        BeforeValidator(as_list),
    ] = Field(default_factory=list)
    seeds: Annotated[list[Annotated[StrictInt, Field(ge=0, lt=SEEDS)]], BeforeValidator(as_list)] = Field(
        default_factory=lambda: [0]
    )
    settings: Settings = Field(default_factory=dict)
    exclude: Annotated[list[Exclusion], BeforeValidator(as_list)] = Field(default_factory=list)
    resources: Resources = Field(default_factory=Resources)

    def shared(self, part: type) -> dict[str, Any]:
        """The values of :data:`SHARED` that are fields of ``part``: RunSpec, Setup or DataSpec."""
        return {field.name: getattr(self, field.name) for field in fields(part) if field.name in SHARED}

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise complaint(f"'{value}' names a folder: letters, digits, '_', '-' and '.', at most 64")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Suite:
        for index, text in enumerate(self.eps):
            as_validator(parse_budget, text, self.norm, place=("eps", index))
        if not self.eps:
            as_validator(ThreatModel, None, self.norm, place=("norm",))
        for index, ensemble in enumerate(self.surrogates):
            if len(ensemble) > 1 and any(entry.name == "all" for entry in ensemble):
                raise complaint("'all' is no part of an ensemble; name its members", "surrogates", index)
        called = [entry.called for entry in self.datasets]
        for index, label in enumerate(called):
            if label in called[:index]:
                raise complaint(f"a second dataset called '{label}'; give it a label", "datasets", index)
        ids = [text for entry in self.datasets for text in entry.protocol_ids]
        places: list[tuple[VictimEntry, tuple[str | int, ...]]] = [
            (entry, ("victims", index)) for index, entry in enumerate(self.victims)
        ]
        places += [
            (entry, ("surrogates", index, at))
            for index, ensemble in enumerate(self.surrogates)
            for at, entry in enumerate(ensemble)
        ]
        for entry, place in places:
            for key in entry.weights:
                if key and key not in (*called, *ids):
                    raise complaint(unknown_name("dataset", key, (*called, *ids)), *place, "weights", key)
        return self
