"""The entries of a suite's lists: victims, attacks, datasets, exclusions, resources."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import (
    BeforeValidator,
    ByteSize,
    Field,
    StrictInt,
    field_validator,
    model_validator,
)

from vbench.attacks.registry import attacks
from vbench.budget import parse_budget
from vbench.data.names import SYNTHETIC, check_name
from vbench.data.protocols import LAYOUTS, default_protocol, parse_protocol
from vbench.size import LARGEST_SIDE, parse_size
from vbench.spec import parse
from vbench.sweep.strict import Strict, as_list, complaint, one_of, told
from vbench.victims.registry import victims

Words = Annotated[list[str], BeforeValidator(as_list)]


def setting_text(value: Any) -> str:
    """A value of a suite as the text that ``--set`` would take: commas in lists, true, false, none."""
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

    name: str
    settings: Settings = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        name, _ = told(parse, value, "attack")
        if name != "all":
            told(attacks.entry, name)
        return value

    def spec(self, usual: dict[str, str]) -> tuple[str, dict[str, str]]:
        """Name and settings; what the entry says itself goes before what is ``usual`` in the suite."""
        name, inside = parse(self.name, "attack")
        return name, {**usual, **inside, **self.settings}


class VictimEntry(Strict):
    """A victim: ``agw``, ``deen[embedding=weighted]``, or its name with ``options`` as a mapping; or ``all``.

    ``weights`` is one checkpoint, or one for each dataset label or protocol id.
    """

    SHORT: ClassVar[str] = "name"

    name: str
    options: Settings = Field(default_factory=dict)
    weights: dict[str, str] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        name, _ = told(parse, value, "victim")
        if name != "all":
            told(victims.entry, name)
        return value

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
        """The victims this stands for, with their options."""
        name, inside = parse(self.name, "victim")
        names = victims.names() if name == "all" else [name]
        return [_with_settings(one, {**inside, **self.options}) for one in names]

    def weights_for(self, label: str, protocol: str) -> str | None:
        """The checkpoint for a dataset under a protocol; None where a thin victim must do."""
        return next((self.weights[key] for key in (protocol, label, "") if key in self.weights), None)


def _size(value: Any) -> Any:
    return told(parse_size, value) if isinstance(value, str) else value


def _dataset(value: Any) -> str:
    return told(check_name, value)


class DatasetEntry(Strict):
    """A dataset: ``synthetic`` (``layout``, ``size``), or a layout or a reader with ``root``.

    By its ``protocols``. A reader is named as it is installed, or by path.
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
            raise complaint(f"images of {max(self.size)} pixels; at most {LARGEST_SIDE} are drawn", "size")
        if not synthetic and "layout" in self.model_fields_set and self.layout != self.name:
            raise complaint(f"layout is for synthetic data; this one is '{self.name}'", "layout")
        layout = self.layout if synthetic else self.name
        # What protocols a reader has, it says when it is loaded.
        for index, text in enumerate(self.protocols if layout in LAYOUTS else ()):
            if told(parse_protocol, text, place=("protocols", index)).layout != layout:
                raise complaint(f"'{text}' is no protocol of '{layout}'", "protocols", index)
        return self

    @property
    def called(self) -> str:
        """Its label, or else its name."""
        return self.label or self.name

    @property
    def protocol_ids(self) -> list[str]:
        """The protocols that are asked for, or the layout's default; of a reader "" stands for its own."""
        layout = self.layout if self.name == SYNTHETIC else self.name
        return self.protocols or [default_protocol(layout) if layout in LAYOUTS else ""]


class Exclusion(Strict):
    """Runs to leave out: all that is named must hold. A name matches with and without its settings."""

    victim: Words | None = None
    attack: Words | None = None
    dataset: Words | None = None
    protocol: Words | None = None
    surrogate: Words | None = None
    eps: Annotated[list[str | float], BeforeValidator(as_list)] | None = None
    side: Words | None = None
    seed: Annotated[list[StrictInt], BeforeValidator(as_list)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Exclusion:
        if not self.said:
            raise complaint("an empty rule would exclude everything")
        for index, text in enumerate(self.eps or ()):
            told(parse_budget, text, "l2", place=("eps", index))
        return self

    @property
    def said(self) -> dict[str, list[Any]]:
        """The keys that are given, with their values."""
        return {name: value for name, value in self if value is not None}


class Resources(Strict):
    """What one run may take: ``cpus`` and ``gpus`` (fractions on Ray), ``memory``; and how often to retry."""

    jobs: Annotated[StrictInt, Field(ge=1, le=1024)] | None = None
    cpus: Annotated[float, Field(gt=0, le=4096)] | None = None
    gpus: Annotated[float, Field(ge=0, le=64)] | None = None
    memory: ByteSize | None = None
    retries: Annotated[StrictInt, Field(ge=0, le=100)] = 1

    @field_validator("jobs", "cpus", "gpus", "retries", mode="before")
    @classmethod
    def _no_truth(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise complaint("a number is needed")
        return value

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise complaint("more than one GPU must be a whole number of them")
        return value
