"""A safetensors file whose header says what it is; a reader trusts neither the header nor the arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vbench.errors import BadInput
from vbench.files import write_atomically
from vbench.types import Modality, Side

_KEY = "vbench"

#: Both sides of a ranking, in the order in which they are written.
SIDES = (Side.QUERY, Side.GALLERY)


class Meta(BaseModel):
    """What every kept file says of itself.

    ``record``, ``created`` and ``digest`` are those of the record that was made by the same run, and of no
    other; ``modality`` that of the images of each side; ``attacked`` the sides whose images were changed.
    """

    model_config = ConfigDict(extra="forbid")

    format: str
    record: str
    created: str
    digest: str = ""
    modality: dict[Side, Modality]
    attacked: list[Side]

    def check(self, form: str) -> None:
        """Raise ValueError if this is another format, or a side is missing."""
        if self.format != form:
            raise ValueError(f"its format is '{self.format[:40]}', not '{form}'")
        if set(self.modality) != set(SIDES) or not set(self.attacked) <= set(SIDES):
            raise ValueError("it does not say the modality of both sides")


M = TypeVar("M", bound=Meta)


def write(path: Path, meta: Meta, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays under a header, atomically; equal content gives equal bytes."""
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_atomically(path, save(whole, {_KEY: meta.model_dump_json()}))


def read_meta(path: Path, model: type[M], form: str) -> M:
    """The header of a file; raises BadInput if it is not of ``form``."""
    return _read(path, model, form, arrays=False)[0]


def read(path: Path, model: type[M], form: str) -> tuple[M, dict[str, np.ndarray]]:
    """Header and arrays, shapes not yet checked; raises BadInput if the file is broken or not of ``form``."""
    return _read(path, model, form, arrays=True)


def refusal(path: Path, reason: object) -> BadInput:
    """The one line about a file that cannot be trusted."""
    first = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
    return BadInput(f"{path} is not what vbench run --keep wrote: {first}")


def array(
    arrays: Mapping[str, np.ndarray], name: str, kinds: Sequence[str], shape: Sequence[int | None]
) -> np.ndarray:
    """An array of one of ``kinds`` (NumPy's names) and of ``shape`` (None: any length).

    Raises ValueError if it is missing, of another kind or shape, or not finite.
    """
    if name not in arrays:
        raise ValueError(f"it holds no '{name}'")
    found = arrays[name]
    fits = found.ndim == len(shape) and all(
        want is None or have == want for have, want in zip(found.shape, shape, strict=True)
    )
    if found.dtype.name not in kinds or not fits:
        wanted = " x ".join("any" if one is None else str(one) for one in shape)
        raise ValueError(
            f"'{name}' is {found.dtype.name} of shape {found.shape}, not {' or '.join(kinds)}, {wanted}"
        )
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise ValueError(f"'{name}' is not finite")
    return found


def places(
    arrays: Mapping[str, np.ndarray], name: str, shape: Sequence[int | None], below: int
) -> np.ndarray:
    """An int32 array of positions in a list of length ``below``; raises ValueError for any outside."""
    found = array(arrays, name, ["int32"], shape)
    if found.size and (found.min() < 0 or found.max() >= below):
        raise ValueError(f"'{name}' points outside a list of {below}")
    return found


def _read(path: Path, model: type[M], form: str, arrays: bool) -> tuple[M, dict[str, np.ndarray]]:
    try:
        with safe_open(path, framework="np") as file:
            meta = model.model_validate_json((file.metadata() or {}).get(_KEY, "null"))
            meta.check(form)
            found = {name: file.get_tensor(name) for name in file.keys()} if arrays else {}  # noqa: SIM118
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "header"
        raise refusal(path, f"{where}: {first['msg']}") from error
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise refusal(path, error) from error
    return meta, found
