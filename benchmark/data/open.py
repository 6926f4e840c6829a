"""Open a data set with vbench's readers or with a plugin's."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

from vbench.core.errors import BadInput, VbenchError, shortened, unknown_name
from vbench.core.plugins import explained, is_own_class, place_of
from vbench.core.source import code_card
from vbench.data.base import Dataset, DatasetReader
from vbench.data.check import checked
from vbench.data.protocols import LAYOUTS, Protocol, default_protocol, parse_protocol
from vbench.data.registry import DATASETS, datasets


def open_dataset(name: str, root: Path, protocol: str | None = None) -> Dataset:
    """Read the data set ``name`` under ``root`` without decoding an image.

    ``name``: a built-in set, an installed reader, or a reader by path; ``protocol`` one of its ids, its
    default when None. Raises :class:`BadInput` for an unknown name or protocol, a protocol of another set, a
    missing folder, and whatever makes the set unusable.
    """
    return read_with(reader_of(name), Path(root), protocol)


def reader_of(name: str) -> DatasetReader:
    """The reader of a data set; raises :class:`BadInput` for an unknown name and one that cannot be made."""
    cls = datasets.load(name)
    with explained(f"dataset '{name}'", cls):
        return cls()


def chosen_protocol(layout: str, protocol: str | None = None) -> Protocol:
    """The protocol with this id, the layout's default when None; raises as :func:`open_dataset` does."""
    chosen = parse_protocol(default_protocol(layout) if protocol is None else protocol)
    if chosen.layout != layout:
        raise BadInput(
            f"protocol '{chosen}' belongs to '{chosen.layout}', not to '{layout}'; "
            f"try '{default_protocol(layout)}'"
        )
    return chosen


def check_root(name: str, root: Path, expected: str) -> Path:
    """``root``; :class:`BadInput`, with what it should hold, when it is no folder."""
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise BadInput(f"{root} {what}; '{name}' expects a folder with {expected}")
    return root


def read_with(reader: DatasetReader, root: Path, protocol: str | None = None) -> Dataset:
    """The data set that ``reader`` reads under ``root``, checked; ``protocol`` defaults to its first.

    Raises :class:`BadInput`, naming the set, for a missing folder, an unknown protocol, and a result that
    :func:`vbench.data.check.checked` refuses; :class:`VbenchError`, with file and line, if the reader fails.
    """
    _check_reader(reader)
    chosen = reader.protocols[0] if protocol is None else protocol
    if reader.name in LAYOUTS:
        chosen = str(chosen_protocol(reader.name, chosen))
    elif chosen not in reader.protocols:
        raise unknown_name(f"protocol of '{reader.name}'", chosen, reader.protocols)
    check_root(reader.name, root, reader.expected)
    with explained(f"dataset '{reader.name}': its reader failed", reader, VbenchError):
        dataset = reader.read(root, chosen)
    what = f"dataset '{reader.name}' under {root}"
    if not isinstance(dataset, Dataset):
        returned = type(dataset).__name__
        raise BadInput(f"{what}: read() in {_code_of(type(reader))} returns a {returned}, not a Dataset")
    if (dataset.name, dataset.protocol) != (reader.name, chosen):
        found = shortened(f"'{dataset.name}' under '{dataset.protocol}'")
        raise BadInput(
            f"{what}: says that it is {found}, not '{chosen}' as asked (read() in {_code_of(type(reader))})"
        )
    try:
        return replace(checked(dataset, what), reader=code_card(reader).get("source", ""))
    except BadInput as error:
        raise BadInput(f"{error} (read() in {_code_of(type(reader))})") from None


def _check_reader(reader: DatasetReader) -> None:
    """Raise :class:`BadInput` for a reader with a missing or wrong class attribute."""
    cls = type(reader)
    for name in ("name", "expected"):
        if not isinstance(getattr(reader, name, None), str):
            raise BadInput(f"dataset reader {cls.__name__} in {_code_of(cls)}: '{name}' must be a text")
    protocols = getattr(reader, "protocols", None)
    if (
        not isinstance(protocols, tuple | list)
        or not protocols
        or not all(isinstance(p, str) for p in protocols)
    ):
        raise BadInput(f"dataset '{reader.name}' in {_code_of(cls)}: 'protocols' must be a tuple of ids")
    if reader.name in DATASETS and not is_own_class(cls):
        raise BadInput(f"dataset '{reader.name}' is vbench's own; give the reader another name")
    for known in protocols:
        if not known.startswith(f"{reader.name}/"):
            raise BadInput(f"dataset '{reader.name}': protocol id '{known}' must start with '{reader.name}/'")


def _code_of(cls: type[DatasetReader]) -> str:
    """File and line of a reader's read(); those of its class if it is not a Python function."""
    code = getattr(inspect.unwrap(cls.read), "__code__", None)
    return f"{code.co_filename}, line {code.co_firstlineno}" if code else place_of(cls)
