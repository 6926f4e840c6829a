"""The shape of a record's configuration: every part that the hash names, and nothing else."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

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
    """Whose code it is: the version of a class of vbench's own, a hash of the source of any other."""

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
    """Before configurations said what kind they are."""

    victim: _FormerVictim
    dataset: _FormerDataset
    attack: _FormerAttack
    surrogate: _FormerVictim | None = None


def problems(config: dict[str, Any]) -> list[str]:
    """What is wrong with the shape of a configuration, one line each."""
    try:
        (_Config if "identity" in config else _FormerConfig).model_validate(config)
    except ValidationError as error:
        return [
            f"config.{'.'.join(str(part) for part in one['loc'])}: {one['msg']}, found {one['input']!r:.60}"
            for one in error.errors(include_url=False)[:5]
        ]
    return []
