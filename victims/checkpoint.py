"""Weights on disk: safe reading of released and own files, atomic writing of own ones."""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from vbench.errors import BadInput, shortened
from vbench.files import write_atomically
from vbench.printable import one_line

#: The one header entry of our files; its value is the metadata as JSON.
_HEADER_KEY = "vbench"
_USUAL_STATE_KEYS = ("net", "state_dict", "model")
_DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


@dataclass(frozen=True)
class Checkpoint:
    """Tensors of a weights file and what is stored beside them (JSON-able)."""

    state: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a ``.safetensors`` file or one written by ``torch.save``; tensors land on the CPU.

    Of a ``torch.save`` file only tensors, plain values and numpy arrays and scalars are accepted; the state
    dict is the file itself or its one entry that is a dict of tensors. A common ``module.`` prefix is
    dropped. Anything else raises BadInput naming the file and the reason; nothing in a file is ever run.
    """
    path = Path(path)
    head = _first_bytes(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if not head.startswith((b"PK", b"\x80")):
        raise BadInput(f"{path}: not a weights file (neither .safetensors nor written by torch.save)")
    content = _load_restricted(path)
    try:
        return _split_state(content, path)
    except RecursionError as error:
        raise BadInput(f"{path}: what lies beside its tensors is nested without end") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of our own ``.safetensors`` file from its header alone; {} for foreign files."""
    path = Path(path)
    _first_bytes(path)
    try:
        with safe_open(path, framework="pt") as file:
            return _parse_metadata(file.metadata(), path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def write_checkpoint(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write ``path`` (``.safetensors``, metadata in its header) and a readable ``.json`` beside it.

    Each file appears whole or not at all. Raises BadInput for another extension.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise BadInput(f"{path}: weights are written as .safetensors; name the file so")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    header = {_HEADER_KEY: json.dumps(metadata, sort_keys=True)}
    write_atomically(path.with_suffix(".json"), json.dumps(metadata, indent=2, sort_keys=True) + "\n")
    write_atomically(path, to_safetensors(tensors, metadata=header))


def sha256_of(state: Mapping[str, Tensor]) -> str:
    """Hash names, shapes, types and bits of all tensors, independent of order, device and file format."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _first_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise BadInput(f"{path}: no such weights file")
    with path.open("rb") as file:
        head = file.read(256)
    text = head.lstrip().lower()
    if not head:
        raise BadInput(f"{path}: the file is empty; get it again")
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise BadInput(
            f"{path}: this is a web page, not weights; the download link led elsewhere, get it again"
        )
    if text.startswith(b"version https://git-lfs"):
        raise BadInput(
            f"{path}: this is a Git LFS pointer, not weights; run 'git lfs pull' where it came from"
        )
    return head


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = file.metadata()
    except Exception as error:  # a type of numbers that torch lacks can make the reader fail in any way
        raise _damaged(path, error) from error
    return Checkpoint(_without_prefix(state), _parse_metadata(header, path))


def _damaged(path: Path, error: Exception) -> BadInput:
    reason = shortened(str(error))
    return BadInput(f"{path}: damaged or incomplete .safetensors file ({reason}); get it again")


def _parse_metadata(header: Mapping[str, str] | None, path: Path) -> dict[str, Any]:
    text = (header or {}).get(_HEADER_KEY)
    if text is None:
        return {}
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: the metadata in its header is not JSON ({error})") from error
    if not isinstance(metadata, dict):
        raise BadInput(f"{path}: the metadata in its header is not a JSON object")
    return metadata


def _load_restricted(path: Path) -> Any:
    _check_archive(path)
    try:
        with torch.serialization.safe_globals(_allowed_globals()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on the pickle protocol of files it then refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile or cut file can make the reader fail in any way
        told = str(error).strip().splitlines()
        reason = shortened(told[0]) if told else type(error).__name__
        if "weights_only" in str(error) or "GLOBAL" in str(error):
            named = [line.strip() for line in str(error).splitlines() if "GLOBAL" in line]
            reason = f"it asks for more than tensors, numbers and numpy arrays ({(named or [reason])[0]})"
            raise BadInput(f"{path}: refused, {one_line(reason)}; nothing of it was run") from error
        raise BadInput(f"{path}: damaged or incomplete ({reason}); get it again") from error


def _check_archive(path: Path) -> None:
    """Refuse an archive that unpacks to more than it is, or whose members would leave a folder.

    torch.save stores as it is, under plain names; nothing is ever unpacked to disk here.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception as error:  # as the reader of torch, this one fails in any way
        raise BadInput(f"{path}: damaged or incomplete ({type(error).__name__}); get it again") from error
    for member in members:
        parts = member.filename.replace("\\", "/").split("/")
        if ".." in parts or not parts[0] or ":" in parts[0]:
            raise BadInput(f"{path}: refused, a member of it is named {shortened(repr(member.filename))}")
    if sum(member.file_size for member in members) > 2 * path.stat().st_size:
        raise BadInput(f"{path}: refused, it is compressed, which torch.save never does")


def _allowed_globals() -> list[Any]:
    multiarray = (getattr(np, "_core", None) or np.core).multiarray
    functions = (multiarray._reconstruct, multiarray.scalar)
    # numpy 2 moved these two; files name the module of the numpy that wrote them.
    both_homes = [
        _renamed(function, home) for function in functions for home in ("numpy.core", "numpy._core")
    ]
    return [*both_homes, np.ndarray, np.dtype, *(type(np.dtype(name)) for name in _DTYPES)]


def _renamed(function: Callable[..., Any], home: str) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        return function(*arguments)

    call.__module__ = f"{home}.multiarray"
    call.__name__ = call.__qualname__ = function.__name__
    return call


def _split_state(content: Any, path: Path) -> Checkpoint:
    if _is_state(content):
        return Checkpoint(_without_prefix(_whole(content, path)))
    if not isinstance(content, dict):
        raise BadInput(f"{path}: holds a {type(content).__name__}, not a dict of tensors")
    candidates = [key for key, value in content.items() if _is_state(value)]
    usual = [key for key in _USUAL_STATE_KEYS if key in candidates]
    if not usual and len(candidates) != 1:
        entries = shortened(", ".join(map(str, content))) or "none"
        raise BadInput(f"{path}: no state dict among its entries: {entries}")
    chosen = usual[0] if usual else candidates[0]
    beside = {str(key): _plain(value) for key, value in content.items() if key != chosen}
    return Checkpoint(_without_prefix(_whole(content[chosen], path)), beside)


def _whole(state: Mapping[str, Tensor], path: Path) -> Mapping[str, Tensor]:
    """The state, of plain tensors; one that repeats a few stored numbers could be of any size."""
    for name, tensor in state.items():
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise BadInput(f"{path}: its tensor {shortened(repr(name))} does not hold what its shape says")
    return state


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(key, str) and isinstance(item, Tensor) for key, item in value.items())
    )


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, bool | int | float | str | type(None)):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return f"<{type(value).__name__}>"


def _without_prefix(state: Mapping[str, Tensor], prefix: str = "module.") -> dict[str, Tensor]:
    if all(name.startswith(prefix) for name in state):
        return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return dict(state)
