"""Weights files, read as data."""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from vbench.core.errors import BadInput, shortened, unknown_name
from vbench.core.files import split_entry, write_atomically
from vbench.core.text import one_line
from vbench.victims.formats import SAFETENSORS, SAVE_THE_STATE, TORCH_LEGACY, check_pickle, kind_of

#: Entries that hold the model itself, next to others such as averaged weights, an optimiser, a loss.
_USUAL = ("net", "state_dict", "model", "model_state_dict", "model_state", "network", "weights", "params")

#: Levels searched for state dicts, and the most levels of nesting in other content.
_LEVELS, _DEEPEST = 3, 50

#: Most entries kept of other content, and most characters kept of a text.
_ENTRIES, _CHARACTERS = 10_000, 1000

#: This many characters count as one entry.
_A_LINE = 100

_LARGEST_INTEGER = 1 << 64

#: Content of a dict: only tensors; tensors and numpy arrays; or some tensors among other values.
_TENSORS, _ARRAYS, _SOME = range(3)

#: An entry of a file, as the sequence of its keys.
Entry = tuple[str, ...]


@dataclass(frozen=True)
class Checkpoint:
    """Tensors of a weights file and the other content of the file (JSON-able).

    ``notes``: choices made while reading the file, such as which of two state dicts was taken.
    """

    state: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_state(content: Any, entry: str | None, where: str) -> Checkpoint:
    """The state dict in the content of a file: the content itself, or an entry of it up to three levels down.

    ``entry`` names one ("model_ema", "checkpoint.model"), or a prefix of tensor names. Without it the only
    state dict is taken, or the only one under a usual name, with a note. Raises BadInput that begins with
    ``where`` if there is none, if there are several, or if tensors are invalid.
    """
    found = _candidates(content, where)
    taken: Entry | None
    if entry is None:
        taken = _the_one(found, where)
    else:
        taken = next((one for one in found if _label(one) == entry), None)
        if taken is None:
            return _beginning_with(entry, found, where)
    state: dict[str, Any] = {}
    others: dict[Any, Any] = {}
    for name, value in found[taken].items():
        (state if isinstance(name, str) and _is_array(value) else others)[name] = value
    notes = []
    if len(found) > 1 and entry is None:
        rest = ", ".join(f"'{_label(one)}'" for one in found if one != taken)
        notes.append(f"it holds {len(found)} state dicts; '{_label(taken)}' was taken, not {shortened(rest)}")
    if any(str(name).endswith("_packed_params") for name in others):
        raise BadInput(f"{where}: the state of a quantised model; save that of the model before quantisation")
    if others and taken:
        others = {".".join((*taken, str(name))): value for name, value in others.items()}
    unused = {} if not taken else {key: value for key, value in content.items() if key != taken[0]}
    facts = _Facts(where).of({**unused, **others})
    if len(taken) > 1 or len(found) > 1:
        facts["entry"] = _label(taken)
    return Checkpoint(to_tensors(state, where), facts, tuple(notes))


def to_tensors(state: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """Plain tensors on the CPU; BadInput for values that are not numbers or larger than the stored data.

    A tensor with stride 0 could have any size with a few stored numbers.
    """
    return {name: _to_tensor(name, value, where) for name, value in state.items()}


def _to_tensor(name: str, value: Any, where: str) -> Tensor:
    said = f"{where}: its tensor {shortened(repr(name))}"
    if not isinstance(value, Tensor):
        return _from_numpy(np.asarray(value), said)
    if value.is_quantized:
        raise BadInput(f"{said} is quantised; save it as tensor.dequantize()")
    if value.is_nested or value.layout != torch.strided:
        raise BadInput(f"{said} is sparse; save it as tensor.to_dense()")
    if value.device.type != "cpu":
        raise BadInput(f"{said} has no values (device {value.device}); save it from a model with weights")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise BadInput(f"{said} does not hold what its shape says; save it as tensor.clone()")
    return value.detach()


def _from_numpy(array: np.ndarray, said: str) -> Tensor:
    if array.dtype.kind not in "biufc":
        raise BadInput(f"{said} is a numpy array of {array.dtype}, not of numbers; save it as a torch tensor")
    native = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    try:
        return torch.from_numpy(native)
    except TypeError as error:
        raise BadInput(f"{said} is a numpy array of {array.dtype}, which torch does not have") from error


def _candidates(content: Any, where: str) -> dict[Entry, dict[Any, Any]]:
    """Entries that hold tensors, of the first kind there is: tensors only, with arrays, with others."""
    if not isinstance(content, dict):
        raise BadInput(
            f"{where}: holds a {type(content).__name__}, not a dict of named tensors; save model.state_dict()"
        )
    if 2 * sum(isinstance(value, Tensor) for value in content.values()) > len(content):
        dicts: dict[Entry, dict[Any, Any]] = {(): content}
    else:
        dicts = dict(_dicts(content))
    kinds = {id(one): _kind(one) for one in dicts.values()}
    for kind in (_TENSORS, _ARRAYS, _SOME):
        found = {label: one for label, one in dicts.items() if kinds[id(one)] == kind}
        named = {label: one for label, one in found.items() if any(isinstance(name, str) for name in one)}
        if named:
            return named
        if found:
            names = shortened(", ".join(f"{name!r}"[:40] for name in list(next(iter(found.values())))[:4]))
            raise BadInput(
                f"{where}: the names of its tensors are no text ({names}); save model.state_dict()"
            )
    entries = shortened(", ".join(str(key)[:40] for key in list(content)[:9] if isinstance(key, str | int)))
    raise BadInput(f"{where}: no state dict among its entries: {entries or 'none'}")


def _kind(one: Mapping[Any, Any]) -> int | None:
    if one and all(isinstance(value, Tensor) for value in one.values()):
        return _TENSORS
    if one and all(map(_is_array, one.values())):
        return _ARRAYS
    return _SOME if any(isinstance(value, Tensor) for value in one.values()) else None


def _dicts(
    content: dict[Any, Any], label: Entry = (), seen: set[int] | None = None
) -> Iterator[tuple[Entry, dict[Any, Any]]]:
    seen = set() if seen is None else seen
    # The state of an optimiser is also a dict of tensors.
    if "param_groups" in content:
        return
    yield label, content
    if len(label) < _LEVELS and id(content) not in seen:
        seen.add(id(content))
        for key, value in content.items():
            if isinstance(value, dict) and isinstance(key, str):
                yield from _dicts(value, (*label, key), seen)


def _the_one(found: Mapping[Entry, Any], where: str) -> Entry:
    if len(found) == 1:
        return next(iter(found))
    usual = [one for one in found if one and one[-1] in _USUAL]
    highest = [one for one in usual if len(one) == min(map(len, usual))]
    if len(highest) == 1:
        return highest[0]
    raise BadInput(f"{where}: holds {len(found)} state dicts; {choose(map(_label, found), where)}")


def choose(entries: Any, where: str) -> str:
    """Advice on choosing one of several entries of a file, for the end of a message."""
    names = list(entries)
    known = shortened(", ".join(f"'{name}'" for name in names))
    return f"choose one of {known}, as in '{where}::{shortened(names[0], 60)}'"


def _beginning_with(entry: str, found: Mapping[Entry, Mapping[Any, Any]], where: str) -> Checkpoint:
    """The tensors of a single state dict whose names begin with ``entry``, without this prefix."""
    start = f"{entry}."
    states = list(found.values())
    inside = {
        name.removeprefix(start): value
        for name, value in (states[0] if len(states) == 1 else {}).items()
        if isinstance(name, str) and name.startswith(start) and _is_array(value)
    }
    if not inside:
        raise unknown_name(f"state dict in {where}", entry, [_label(one) for one in found if one])
    return Checkpoint(to_tensors(inside, where), {"entry": entry})


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray | np.generic)


def _label(entry: Entry) -> str:
    return ".".join(entry)


class _Facts:
    """Copies of a file's other content as JSON-able values, limited in size.

    Values beyond the limit, and values that are not plain, are replaced by the name of their type. A few
    lists that contain each other could expand to 10^12 entries.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._left = _ENTRIES

    def of(self, content: Mapping[Any, Any]) -> dict[str, Any]:
        kept = {}
        # Lists last, so that a long one does not displace single values.
        for key, value in sorted(content.items(), key=lambda item: isinstance(item[1], list | tuple)):
            if self._left > 0 and isinstance(key, str | int):
                kept[self._text(str(key))] = self._plain(value)
        return kept

    def _plain(self, value: Any, depth: int = 0) -> Any:
        self._left -= 1
        if depth > _DEEPEST:
            raise BadInput(f"{self._where}: its content besides tensors is nested too deeply")
        if self._left > 0:
            if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
                if value.size <= self._left:
                    return self._plain(value.tolist(), depth)
            elif isinstance(value, str):
                return self._text(value)
            elif isinstance(value, list | tuple) and len(value) <= self._left:
                return [self._plain(item, depth + 1) for item in value]
            elif isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
                return f"<integer of {value.bit_length()} bits>"
            elif isinstance(value, bool | int | float | None):
                return value
        return f"<{type(value).__name__}>"

    def _text(self, value: str) -> str:
        self._left -= len(value[:_CHARACTERS]) // _A_LINE
        # A lone surrogate cannot be encoded.
        return value[:_CHARACTERS].encode("utf-8", "backslashreplace").decode()


#: The one header entry of our files; its value is the metadata as JSON.
_HEADER_KEY = "vbench"

#: Most bytes of a header, and most characters of the metadata in it. A network with ten thousand tensors
#: needs a tenth of that; text parsed as JSON takes many times its size in memory.
_LARGEST_HEADER, _LARGEST_METADATA = 16_000_000, 4_000_000

_INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]

_DTYPES = ("bool", *_INTEGERS, "float16", "float32", "float64", "complex64", "complex128")

#: Pickles in a file that torch.save wrote before version 1.6; the last one holds the storages' names.
_LEGACY_PICKLES = 5


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a safetensors file or one written by ``torch.save``, whatever its name; tensors are on the CPU.

    In a ``torch.save`` file only tensors, plain values and numpy arrays and scalars are accepted; the state
    dict is the file itself or an entry of it (:func:`find_state`), which a path may name:
    ``file.pth::model_ema``. Anything else raises BadInput naming the file and the reason; nothing in a file
    is ever executed.
    """
    path, entry = split_entry(path)
    kind = kind_of(path)
    try:
        if kind == SAFETENSORS:
            return _read_safetensors(path, entry)
        return find_state(_load_restricted(path, kind), entry, str(path))
    except RecursionError as error:
        raise BadInput(f"{path}: its content besides tensors is nested too deeply") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of our own ``.safetensors`` file, from its header only; {} for other files."""
    path = Path(path)
    if kind_of(path) != SAFETENSORS:
        return {}
    _check_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            return _parse_metadata(file.metadata(), path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def write_checkpoint(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write ``path`` (``.safetensors``, metadata in its header) and a readable ``.json`` next to it.

    Each file is written completely or not at all. Tensors that share memory are each written in full. Raises
    BadInput for another extension, and as :func:`check_storable` does.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise BadInput(f"{path}: weights are written as .safetensors; name the file so")
    check_storable(state, str(path))
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    held: set[int] = set()
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if memory in held else tensor
        held.add(memory)
    header = {_HEADER_KEY: json.dumps(metadata, sort_keys=True)}
    write_atomically(path.with_suffix(".json"), json.dumps(metadata, indent=2, sort_keys=True) + "\n")
    write_atomically(path, to_safetensors(tensors, metadata=header))


def check_state(state: Mapping[str, Tensor], owner: str) -> None:
    """Raise BadInput, in a line that begins with ``owner``, unless a state dict holds plain tensors only."""
    for name, value in state.items():
        said = f"{owner}: '{shortened(str(name))}' of its state dict"
        if not isinstance(value, Tensor):
            raise BadInput(f"{said} is no tensor but a {type(value).__name__}; keep it as a buffer")
        if value.layout != torch.strided or value.is_quantized or value.is_nested:
            raise BadInput(f"{said} is sparse, nested or quantised; keep a plain tensor instead")
        if value.is_meta:
            raise BadInput(f"{said} has no values (meta device); load weights first")


def check_storable(state: Mapping[str, Tensor], owner: str) -> None:
    """Raise BadInput, in a line that begins with ``owner``, for tensors that no weights file can hold."""
    check_state(state, owner)
    try:
        to_safetensors({name: torch.empty(0, dtype=value.dtype) for name, value in state.items()})
    except Exception as error:  # a dtype that the format lacks can make it fail in any way
        types = ", ".join(sorted({str(value.dtype) for value in state.values()}))
        raise BadInput(f"{owner}: a weights file cannot hold all of {types}; convert its tensors") from error


def sha256_of(state: Mapping[str, Tensor]) -> str:
    """Hash names, shapes, dtypes and bits of all tensors, independent of order, device and file format."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().resolve_conj().resolve_neg().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        flat = tensor.reshape(-1)
        flat = torch.view_as_real(flat).reshape(-1) if flat.is_complex() else flat
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read_safetensors(path: Path, entry: str | None) -> Checkpoint:
    _check_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = file.metadata()
    except Exception as error:  # a dtype that torch lacks can make the reader fail in any way
        raise _damaged(path, error) from error
    if entry is not None:
        return find_state(state, entry, str(path))
    return Checkpoint(to_tensors(state, str(path)), _parse_metadata(header, path))


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > _LARGEST_HEADER:
        raise BadInput(
            f"{path}: damaged or incomplete .safetensors file (a header of {length:,} bytes); get it again"
        )


def _damaged(path: Path, error: Exception) -> BadInput:
    reason = shortened(str(error))
    return BadInput(f"{path}: damaged or incomplete .safetensors file ({reason}); get it again")


def _parse_metadata(header: Mapping[str, str] | None, path: Path) -> dict[str, Any]:
    text = (header or {}).get(_HEADER_KEY)
    if text is None:
        return {}
    if len(text) > _LARGEST_METADATA:
        raise BadInput(f"{path}: the metadata in its header is too long ({len(text):,} characters)")
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: the metadata in its header is not JSON ({error})") from error
    if not isinstance(metadata, dict):
        raise BadInput(f"{path}: the metadata in its header is not a JSON object")
    return metadata


def _load_restricted(path: Path, kind: str) -> Any:
    _check_pickles(path, kind)
    try:
        with torch.serialization.safe_globals(_allowed_globals()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about the pickle protocol of files it then refuses
            # torch would treat a file as safetensors because of its name.
            with path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile or cut file can make the reader fail in any way
        lines = str(error).strip().splitlines()
        array = re.search(r"numpy\.dtypes\.(\w+?)DType", str(error))
        if array:
            raise BadInput(
                f"{path}: refused, it holds a numpy array of type {array[1]}; save a tensor of numbers"
            ) from error
        reason = shortened(lines[0]) if lines else type(error).__name__
        if "weights_only" in str(error) or "GLOBAL" in str(error):
            named = [line.strip() for line in str(error).splitlines() if "GLOBAL" in line]
            reason = f"it holds more than tensors, numbers and numpy arrays ({(named or [reason])[0]})"
            raise BadInput(
                f"{path}: refused, {one_line(reason)}; nothing of it was run; {SAVE_THE_STATE}"
            ) from error
        raise BadInput(f"{path}: damaged or incomplete ({reason}); get it again") from error


def _check_pickles(path: Path, kind: str) -> None:
    if kind == TORCH_LEGACY:
        with path.open("rb") as file:
            for _ in range(_LEGACY_PICKLES):
                check_pickle(file, str(path))
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith("data.pkl"):
                    check_pickle(io.BytesIO(_member(archive, name, path)), str(path))


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    try:
        return archive.read(name)
    except Exception as error:  # a cut or encrypted member can make the reader fail in any way
        raise BadInput(f"{path}: damaged or incomplete ({type(error).__name__}); get it again") from error


def _allowed_globals() -> list[Any]:
    multiarray = (getattr(np, "_core", None) or np.core).multiarray
    # numpy 2 moved these two; files contain the module name of the numpy that wrote them.
    both_homes = [
        _renamed(function, name, home)
        for function, name in ((_empty_array, "_reconstruct"), (multiarray.scalar, "scalar"))
        for home in ("numpy.core", "numpy._core")
    ]
    return [*both_homes, np.ndarray, np.dtype, *(type(np.dtype(name)) for name in _DTYPES)]


def _empty_array(*arguments: Any) -> np.ndarray:
    """The empty array that numpy's pickles fill; they may request any size."""
    return np.ndarray((0,), np.int8)


def _renamed(function: Callable[..., Any], name: str, home: str) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        return function(*arguments)

    call.__module__ = f"{home}.multiarray"
    call.__name__ = call.__qualname__ = name
    return call
