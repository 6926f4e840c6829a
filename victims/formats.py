"""Recognises weights files by their first bytes; refuses archives and pickles that hold more than weights."""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch

from vbench.core.errors import BadInput, refused, shortened

#: Results of :func:`kind_of`.
SAFETENSORS, TORCH_ZIP, TORCH_LEGACY = "safetensors", "torch zip", "torch legacy"

#: Advice: how to save only the tensors.
SAVE_THE_STATE = "where you trust it, save its tensors alone: torch.save(model.state_dict(), 'weights.pth')"

_AS_TENSORS = "save its arrays as a dict of names and tensors with torch.save"

_EXPORT = "convert it to a PyTorch state dict with the tool that wrote it"

_UNPACK = "unpack it and name the weights file inside"

_AGAIN = "get it again"

#: Offset and bytes of a mark, the format that it identifies, and what to do.
_MARKS = (
    (0, b"\x93NUMPY", "a single numpy array (.npy)", _AS_TENSORS),
    (0, b"\x89HDF\r\n", "an HDF5 file, as Keras and MATLAB write", _EXPORT),
    (0, b"\x1f\x8b", "compressed with gzip", _UNPACK),
    (0, b"BZh", "compressed with bzip2", _UNPACK),
    (0, b"\xfd7zXZ\x00", "compressed with xz", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!", "a rar archive", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"GGUF", "a GGUF file", _EXPORT),
    (4, b"TFL3", "a TensorFlow Lite model", _EXPORT),
    (0, b"MATLAB 5.0", "a MATLAB file", _AS_TENSORS),
    (0, b"version https://git-lfs", "a Git LFS pointer", "run 'git lfs pull' where it came from"),
)

#: The same for formats without such a mark, by a pattern of file names.
_NAMES = (
    (r"\.onnx$", "an ONNX model", _EXPORT),
    (r"\.(pb|index|meta)$|\.data-\d{5}-of-\d{5}$", "a TensorFlow model or checkpoint", _EXPORT),
    (r"\.msgpack$", "a Flax checkpoint", _EXPORT),
)

_WEB_PAGES = (b"<!doctype", b"<html", b"<?xml")

#: The beginning of a file that torch.save wrote before version 1.6: a pickle of this number.
_LEGACY = re.compile(rb"\x80.\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19", re.DOTALL)

_TEXT_PICKLES = (b"(dp", b"(lp", b"ccollections", b"cnumpy", b"cbuiltins", b"c__builtin__", b"ctorch")

_WEIGHTS = (".pth", ".pt", ".t", ".t7", ".bin", ".ckpt", ".safetensors", ".tar")

_SHOWN = 4


def kind_of(path: Path) -> str:
    """Whether ``path`` is a safetensors file, or one of the two kinds that torch.save writes.

    Raises BadInput for anything else, with the format of the file, if recognised, and what to do.
    """
    head = first_bytes(path)
    text = head.lstrip().lower()
    if not head:
        raise BadInput(f"{path}: the file is empty; {_AGAIN}")
    if text.startswith(_WEB_PAGES):
        raise BadInput(f"{path}: a web page, not weights; the download link led elsewhere, {_AGAIN}")
    if _is_safetensors(path, head):
        return SAFETENSORS
    if head.startswith(b"PK"):
        check_archive(path)
        return TORCH_ZIP
    if _LEGACY.match(head):
        return TORCH_LEGACY
    if head.startswith(b"\x80") or head.startswith(_TEXT_PICKLES):
        raise _not_weights(path, "a Python pickle that torch.save did not write", SAVE_THE_STATE)
    for at, mark, what, remedy in _MARKS:
        if head[at:].startswith(mark):
            raise _not_weights(path, what, remedy)
    if head[:1] == b"\x08" and (b"onnx" in text or b"pytorch" in text):
        raise _not_weights(path, "an ONNX model", _EXPORT)
    if b'"weight_map"' in head:
        raise _not_weights(path, "the index of weights in several files", "join them into one state dict")
    for pattern, what, remedy in _NAMES:
        if re.search(pattern, path.name.lower()):
            raise _not_weights(path, what, remedy)
    if path.suffix == ".safetensors":
        return SAFETENSORS
    raise BadInput(
        f"{path}: not a weights file (neither safetensors nor written by torch.save); name the checkpoint"
    )


def first_bytes(path: Path) -> bytes:
    """The beginning of a file; BadInput if it is not a file or cannot be read."""
    try:
        if path.is_dir():
            raise _not_weights(path, "a folder", _in_folder(path))
        if not path.is_file():
            raise BadInput(f"{path}: no such weights file")
        with path.open("rb") as file:
            return file.read(512)
    except (OSError, ValueError) as error:
        reason = refused(error) if isinstance(error, OSError) else str(error)
        raise BadInput(f"{shortened(str(path))}: cannot be read ({reason})") from error


def _in_folder(path: Path) -> str:
    found = sorted(file.name for file in path.iterdir() if file.suffix in _WEIGHTS)
    if (path / "data.pkl").is_file():
        return "it is what torch.save writes, unpacked: name the file it was"
    if (path / "saved_model.pb").is_file() or (path / "checkpoint").is_file():
        return f"it is of TensorFlow: {_EXPORT}"
    if (path / ".metadata").is_file():
        return "join a distributed checkpoint with torch.distributed.checkpoint.format_utils first"
    return f"name the weights file in it{f' ({_some(found)})' if found else ''}"


def _is_safetensors(path: Path, head: bytes) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size - 8


def _not_weights(path: Path, what: str, remedy: str) -> BadInput:
    return BadInput(f"{path}: this is {what}, not weights; {remedy}")


def check_archive(path: Path) -> None:
    """Raise BadInput for a zip archive that torch.save did not write, and for a manipulated one.

    Manipulated is one with compressed members, two members of one name, or member names that would leave a
    folder. torch.save stores uncompressed, under plain names; nothing is ever unpacked to disk here. A file
    that no zip reader opens is left to torch, which reports that it is damaged.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception as error:  # like torch's reader, this one can fail in any way
        raise BadInput(f"{path}: damaged or incomplete ({type(error).__name__}); {_AGAIN}") from error
    names = [member.orig_filename for member in members]
    for name in names:
        parts = name.replace("\\", "/").split("/")
        if ".." in parts or not parts[0] or re.match("[A-Za-z]:$", parts[0]) or "\0" in name:
            raise BadInput(f"{path}: refused, a member of it is named {shortened(repr(name))}")
    _refuse_other_archives(path, names)
    if len(set(names)) < len(names):
        raise BadInput(f"{path}: refused, it has two members of one name; save it again with torch.save")
    if sum(member.file_size for member in members) > 2 * path.stat().st_size:
        raise BadInput(
            f"{path}: refused, it is compressed, which torch.save never does; save it again with torch.save"
        )


def _refuse_other_archives(path: Path, names: Sequence[str]) -> None:
    inside = [name.partition("/")[2] for name in names]
    if "constants.pkl" in inside or any(name.startswith("code/") for name in inside):
        script = "torch.save(torch.jit.load(file).state_dict(), 'weights.pth') where you trust it"
        raise _not_weights(
            path, "a TorchScript program, which holds code", f"save its tensors alone: {script}"
        )
    if "archive_format" in inside or any("serialized_exported_program" in name for name in names):
        program = "torch.save(torch.export.load(file).state_dict, 'weights.pth') where you trust it"
        raise _not_weights(path, "a program of torch.export (.pt2)", f"save its tensors alone: {program}")
    if "data.pkl" in inside:
        return
    if names and all(name.endswith(".npy") for name in names):
        raise _not_weights(path, "an archive of numpy arrays (.npz)", _AS_TENSORS)
    if any(name.endswith((".weights.h5", "saved_model.pb")) for name in names):
        raise _not_weights(path, "a model of Keras or TensorFlow", _EXPORT)
    raise _not_weights(path, f"a zip archive (of {_some(names) or 'nothing'})", _UNPACK)


def _some(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _SHOWN else ""
    return shortened(", ".join(names[:_SHOWN]) + more)


#: Allowed callables: they create no more than the file holds.
_CALLED = frozenset(
    {
        "collections.OrderedDict",
        "collections.Counter",
        "builtins.set",
        "builtins.complex",
        "_codecs.encode",
        "torch.Size",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "torch.serialization._get_layout",
        "torch._tensor._rebuild_from_type_v2",
        "numpy.dtype",
        *(
            f"numpy.{core}.multiarray.{name}"
            for core in ("core", "_core")
            for name in ("_reconstruct", "scalar")
        ),
        *(
            f"torch._utils._rebuild_{name}"
            for name in (
                "tensor",
                "tensor_v2",
                "tensor_v3",
                "parameter",
                "parameter_with_state",
                "sparse_tensor",
                "qtensor",
                "meta_tensor_no_storage",
                "nested_tensor",
                "device_tensor_from_cpu_tensor",
                "device_tensor_from_numpy",
            )
        ),
    }
)

#: Allowed only as the type of a value, not as a callable.
_NAMED = frozenset(
    {"numpy.ndarray", "torch.Tensor", "torch.storage.TypedStorage", "torch.storage.UntypedStorage"}
)

_ENCODINGS = ("latin1", "latin-1")

#: Limit on the work for a pickle: visited values per instruction, and in addition for any file.
_EACH, _ANYWAY = 50, 1_000_000

_ONE = frozenset(
    [
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "EMPTY_TUPLE",
        "EMPTY_LIST",
        "EMPTY_DICT",
        "EMPTY_SET",
        "BININT",
        "BININT1",
        "BININT2",
        "BINFLOAT",
        "LONG1",
        "BINUNICODE",
        "SHORT_BINSTRING",
    ]
)

_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass
class _Value:
    """A value of the pickle: how many values it contains, counting shared ones each time, and some facts."""

    size: int = 1
    text: str = ""
    name: str = ""
    parts: tuple[_Value, ...] = ()


def check_pickle(file: IO[bytes], where: str) -> None:
    """Raise BadInput, in one line that begins with ``where``, for a pickle with forbidden content.

    Forbidden is anything but tensors, plain values and numpy arrays, and more work than a file of its size
    can need. Reads ``file`` to the end of one pickle.
    """
    reading = _Reading(where)
    try:
        for opcode, argument, _ in pickletools.genops(file):
            reading.step(opcode.name, argument)
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise BadInput(f"{where}: damaged or incomplete ({shortened(str(error))}); get it again") from error


class _Reading:
    """The stack of a pickle reader, with sizes in place of values."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._stack: list[_Value] = []
        self._marks: list[int] = []
        self._memo: dict[object, _Value] = {}
        self._steps = self._spent = 0
        self._do: dict[str, Callable[[], None]] = {
            "MARK": lambda: self._marks.append(len(self._stack)),
            "TUPLE": lambda: self._tuple(self._since_mark()),
            "APPEND": lambda: self._put_in(self._take(1)),
            "APPENDS": lambda: self._put_in(self._since_mark()),
            "SETITEM": lambda: self._put_in(self._take(2), named=True),
            "SETITEMS": lambda: self._put_in(self._since_mark(), named=True),
            "REDUCE": self._call,
            "NEWOBJ": self._call,
            "BUILD": lambda: self._spend(self._take(1)),
            "BINPERSID": lambda: self._stack.append(_Value(self._take(1)[0].size)),
            "STOP": lambda: None,
            "PROTO": lambda: None,
        }

    def step(self, name: str, argument: object) -> None:
        self._steps += 1
        if name in _ONE:
            self._stack.append(_Value(text=argument if isinstance(argument, str) else ""))
        elif name in _TUPLES:
            self._tuple(self._take(_TUPLES[name]))
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name == "GLOBAL":
            self._stack.append(_Value(name=self._allowed(str(argument).replace(" ", "."))))
        elif name in self._do:
            self._do[name]()
        else:
            raise BadInput(
                f"{self._where}: written with a pickle protocol that torch's safe reader does not know "
                f"({name}); save it again with torch.save(state, file)"
            )

    def _take(self, count: int) -> list[_Value]:
        if len(self._stack) < count + (self._marks[-1] if self._marks else 0):
            raise ValueError("its pickle takes more than it made")
        taken = self._stack[-count:]
        del self._stack[-count:]
        return taken

    def _since_mark(self) -> list[_Value]:
        mark = self._marks.pop()
        taken = self._stack[mark:]
        del self._stack[mark:]
        return taken

    def _tuple(self, parts: list[_Value]) -> None:
        made = _Value(1 + sum(part.size for part in parts), parts=tuple(parts))
        self._spend([made])
        self._stack.append(made)

    def _put_in(self, parts: list[_Value], named: bool = False) -> None:
        # A dict key is hashed, which visits everything in it, each time.
        self._spend(parts[::2] if named else ())
        self._stack[-1].size += sum(part.size for part in parts)

    def _call(self) -> None:
        called, given = self._take(2)
        if called.name not in _CALLED:
            raise self._refusal(called.name or "a value that is called")
        parts = given.parts
        if called.name == "torch._tensor._rebuild_from_type_v2" and (parts[0].name not in _CALLED):
            raise self._refusal(parts[0].name)
        if called.name == "_codecs.encode" and (len(parts) != 2 or parts[1].text not in _ENCODINGS):
            raise self._refusal(called.name)
        self._spend([given])
        self._stack.append(_Value(given.size))

    def _allowed(self, name: str) -> str:
        module, _, last = name.rpartition(".")
        kind = getattr(torch, last, None) if module == "torch" else None
        storage = module in ("torch", "torch.cuda") and last.endswith("Storage")
        facts = (torch.dtype, torch.qscheme, torch.layout)
        if name in _CALLED or name in _NAMED or storage or isinstance(kind, facts):
            return name
        raise self._refusal(name)

    def _spend(self, values: Iterable[_Value]) -> None:
        self._spent += sum(value.size for value in values)
        if self._spent > _ANYWAY + _EACH * self._steps:
            raise BadInput(
                f"{self._where}: refused, its values contain each other too often for a weights file"
            )

    def _refusal(self, name: str) -> BadInput:
        return BadInput(
            f"{self._where}: refused, it holds more than tensors, numbers and numpy arrays "
            f"({shortened(name)}); nothing of it was run; {SAVE_THE_STATE}"
        )
