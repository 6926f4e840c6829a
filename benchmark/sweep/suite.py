"""The suite: what a sweep file says, as a value. Reading one imports neither torch nor an attack."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, field_validator, model_validator

from vbench.budget import parse_budget
from vbench.errors import unknown_name
from vbench.seeds import SEEDS
from vbench.sweep.entries import (
    AttackEntry,
    DatasetEntry,
    Exclusion,
    Resources,
    Settings,
    VictimEntry,
    setting_text,
)
from vbench.sweep.strict import Strict, as_list, complaint, one_of, told
from vbench.types import Side

#: What ``surrogates`` may hold beside victims: the run that is crafted on the victim itself.
NONE = "none"
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def _surrogate(value: Any) -> Any:
    """``none`` is no victim, one victim is a list of one; a list is an ensemble."""
    return [] if value is None or value == NONE else as_list(value)


Budget = Annotated[str, BeforeValidator(setting_text)]
Ensemble = Annotated[list[VictimEntry], BeforeValidator(_surrogate)]


class Suite(Strict):
    """Victims x surrogates x attacks x datasets and protocols x eps x side x seeds, less what is excluded.

    Lists may be written as one value. ``eps`` and ``side`` that are not given are 8/255 and query, or what
    an attack's preset says. ``settings`` are those of every attack that does not give its own.
    """

    name: str = ""
    victims: Annotated[list[VictimEntry], BeforeValidator(as_list)]
    attacks: Annotated[list[AttackEntry], BeforeValidator(as_list)]
    datasets: Annotated[list[DatasetEntry], BeforeValidator(as_list)] = Field(
        default_factory=lambda: [DatasetEntry()]
    )
    surrogates: Annotated[list[Ensemble], BeforeValidator(as_list)] = Field(default_factory=lambda: [[]])
    eps: Annotated[list[Budget], BeforeValidator(as_list)] = Field(default_factory=list)
    norm: Annotated[str, BeforeValidator(one_of("norm", ("linf", "l2")))] = "linf"
    side: Annotated[
        list[Annotated[str, BeforeValidator(one_of("side", [side.value for side in Side]))]],
        BeforeValidator(as_list),
    ] = Field(default_factory=list)
    quantize: StrictBool = True
    seeds: Annotated[list[Annotated[StrictInt, Field(ge=0, lt=SEEDS)]], BeforeValidator(as_list)] = Field(
        default_factory=lambda: [0]
    )
    settings: Settings = Field(default_factory=dict)
    exclude: Annotated[list[Exclusion], BeforeValidator(as_list)] = Field(default_factory=list)
    precision: Annotated[str, BeforeValidator(one_of("precision", PRECISIONS))] = "auto"
    channels_last: StrictBool | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    ignore_gates: StrictBool = False
    resources: Resources = Field(default_factory=Resources)

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise complaint(f"'{value}' names a folder: letters, digits, '_', '-' and '.', at most 64")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Suite:
        for index, text in enumerate(self.eps):
            told(parse_budget, text, self.norm, place=("eps", index))
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
