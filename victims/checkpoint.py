"""Weights on disk: safe reading of released and own files, atomic writing of own ones."""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from vbench.errors import BadInput, shortened
from vbench.files import split_entry, write_atomically
from vbench.printable import one_line
from vbench.victims.formats import SAFETENSORS, SAVE_THE_STATE, TORCH_LEGACY, kind_of
from vbench.victims.pickles import check_pickle
from vbench.victims.states import Checkpoint, find_state, to_tensors

__all__ = ["Checkpoint", "read_checkpoint", "read_metadata", "sha256_of", "write_checkpoint"]

#: The one header entry of our files; its value is the metadata as JSON.
_HEADER_KEY = "vbench"
#: Bytes of a header, and characters of the metadata in it; those of a network with ten thousand tensors are a
#: tenth of it, and text read as JSON takes many times its size.
_LARGEST_HEADER, _LARGEST_METADATA = 16_000_000, 4_000_000
_INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
_DTYPES = ("bool", *_INTEGERS, "float16", "float32", "float64", "complex64", "complex128")
#: A file that torch.save wrote before version 1.6: four pickles before the one of the storages' names.
_LEGACY_PICKLES = 5


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a safetensors file or one written by ``torch.save``, whatever its name; tensors land on the CPU.

    Of a ``torch.save`` file only tensors, plain values and numpy arrays and scalars are accepted; the state
    dict is the file itself or an entry of it (:func:`vbench.victims.states.find_state`), which a path may
    name: ``file.pth::model_ema``. Anything else raises BadInput naming the file and the reason; nothing in a
    file is ever run.
    """
    path, entry = split_entry(path)
    kind = kind_of(path)
    try:
        if kind == SAFETENSORS:
            return _read_safetensors(path, entry)
        return find_state(_load_restricted(path, kind), entry, str(path))
    except RecursionError as error:
        raise BadInput(f"{path}: what lies beside its tensors is nested without end") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of our own ``.safetensors`` file from its header alone; {} for foreign files."""
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
    """Write ``path`` (``.safetensors``, metadata in its header) and a readable ``.json`` beside it.

    Each file appears whole or not at all. Tensors that share memory are each written whole. Raises BadInput
    for another extension, and as :func:`check_storable` does.
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
    """Raise BadInput, in a line that begins with ``owner``, for a state dict of more than plain tensors."""
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
    except Exception as error:  # a type of numbers that the format lacks can make it fail in any way
        types = ", ".join(sorted({str(value.dtype) for value in state.values()}))
        raise BadInput(f"{owner}: a weights file cannot hold all of {types}; convert its tensors") from error


def sha256_of(state: Mapping[str, Tensor]) -> str:
    """Hash names, shapes, types and bits of all tensors, independent of order, device and file format."""
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
    except Exception as error:  # a type of numbers that torch lacks can make the reader fail in any way
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
            warnings.simplefilter("ignore")  # torch remarks on the pickle protocol of files it then refuses
            # By its name torch would take a file for one of safetensors.
            with path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile or cut file can make the reader fail in any way
        told = str(error).strip().splitlines()
        array = re.search(r"numpy\.dtypes\.(\w+?)DType", str(error))
        if array:
            raise BadInput(
                f"{path}: refused, it holds a numpy array of type {array[1]}; save a tensor of numbers"
            ) from error
        reason = shortened(told[0]) if told else type(error).__name__
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
    # numpy 2 moved these two; files name the module of the numpy that wrote them.
    both_homes = [
        _renamed(function, name, home)
        for function, name in ((_empty_array, "_reconstruct"), (multiarray.scalar, "scalar"))
        for home in ("numpy.core", "numpy._core")
    ]
    return [*both_homes, np.ndarray, np.dtype, *(type(np.dtype(name)) for name in _DTYPES)]


def _empty_array(*arguments: Any) -> np.ndarray:
    """What numpy's pickles fill; they may ask for one of any size."""
    return np.ndarray((0,), np.int8)


def _renamed(function: Callable[..., Any], name: str, home: str) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        return function(*arguments)

    call.__module__ = f"{home}.multiarray"
    call.__name__ = call.__qualname__ = name
    return call
