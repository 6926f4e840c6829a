"""Open a data set with vbench's readers or with a plugin's."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from vbench.core.errors import BadInput, VbenchError, shortened, unknown_name
from vbench.core.plugins import explained, place_of
from vbench.core.source import code_card
from vbench.data import llcm, regdb, sysu
from vbench.data.base import SYNTHETIC_MARK, Dataset
from vbench.data.check import checked
from vbench.data.protocols import LAYOUTS, Protocol, check_layout, default_protocol, parse_protocol

_READERS = {"sysu": sysu.read_sysu, "regdb": regdb.read_regdb, "llcm": llcm.read_llcm}

_EXPECTED = {"sysu": sysu.EXPECTED, "regdb": regdb.EXPECTED, "llcm": llcm.EXPECTED}


def open_dataset(layout: str, root: Path, protocol: str | None = None) -> Dataset:
    """Read the data set under ``root`` without decoding an image.

    ``layout`` is "sysu", "regdb" or "llcm"; ``protocol`` an id of :func:`all_protocols`, the layout's
    default when None. Raises :class:`BadInput` for an unknown layout or protocol, a protocol of another
    layout, a missing folder, and a set that a reader or :func:`checked` refuses.
    """
    root = check_root(layout, root)
    chosen = chosen_protocol(layout, protocol)
    return checked(_READERS[layout](root, chosen, synthetic=is_synthetic(root)))


def chosen_protocol(layout: str, protocol: str | None = None) -> Protocol:
    """The protocol with this id, the layout's default when None; raises as :func:`open_dataset` does."""
    chosen = parse_protocol(default_protocol(layout) if protocol is None else protocol)
    if chosen.layout != layout:
        raise BadInput(
            f"protocol '{chosen}' belongs to '{chosen.layout}', not to '{layout}'; "
            f"try '{default_protocol(layout)}'"
        )
    return chosen


def check_root(layout: str, root: Path) -> Path:
    """Return ``root`` as a path; :class:`BadInput` for an unknown layout or if it is not a folder."""
    check_layout(layout)
    root = Path(root)
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise BadInput(f"{root} {what}; '{layout}' expects a folder with {_EXPECTED[layout]}")
    return root


def is_synthetic(root: Path) -> bool:
    """Whether the folder was written by ``vbench data synth``."""
    return (root / SYNTHETIC_MARK).exists()


class DatasetReader(ABC):
    """Base class of readers for other data sets; installed under the entry-point group ``vbench.datasets``.

    ``name`` must not be one of vbench's own. ``protocols`` are the ids it can be read under, the default
    first, each "name/..."; ``expected`` says what its folder holds, for the message if it is missing.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    protocols: ClassVar[tuple[str, ...]]
    expected: ClassVar[str]

    @abstractmethod
    def read(self, root: Path, protocol: str) -> Dataset:
        """The set under ``root`` for one of :attr:`protocols`, without decoding an image."""


def read_with(reader: DatasetReader, root: Path, protocol: str | None = None) -> Dataset:
    """The data set that ``reader`` reads under ``root``, checked; ``protocol`` defaults to its first.

    Raises :class:`BadInput`, naming the set, for a missing folder, an unknown protocol, and a result that
    :func:`vbench.data.check.checked` refuses; :class:`VbenchError`, with file and line, if the reader fails.
    """
    _check_reader(reader)
    chosen = reader.protocols[0] if protocol is None else protocol
    if chosen not in reader.protocols:
        raise unknown_name(f"protocol of '{reader.name}'", chosen, reader.protocols)
    if not root.is_dir():
        raise BadInput(f"{root} is not a folder; '{reader.name}' expects one with {reader.expected}")
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
    if reader.name in LAYOUTS:
        raise BadInput(f"dataset '{reader.name}' is vbench's own; give the reader another name")
    for known in protocols:
        if not known.startswith(f"{reader.name}/"):
            raise BadInput(f"dataset '{reader.name}': protocol id '{known}' must start with '{reader.name}/'")


def _code_of(cls: type[DatasetReader]) -> str:
    """File and line of a reader's read(); those of its class if it is not a Python function."""
    code = getattr(inspect.unwrap(cls.read), "__code__", None)
    return f"{code.co_filename}, line {code.co_firstlineno}" if code else place_of(cls)
