"""Data sets from outside: what a reader must offer, and what is checked of what it returns."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from vbench.data.base import Dataset
from vbench.data.check import checked
from vbench.data.protocols import LAYOUTS
from vbench.errors import BadInput, VbenchError, shortened, unknown_name
from vbench.plugins import explained, place_of
from vbench.source import code_card


class DatasetReader(ABC):
    """A data set that vbench does not know itself; installed under the entry-point group ``vbench.datasets``.

    ``name`` must not be one of vbench's own. ``protocols`` are the ids it can be read under, the default
    first, each "name/..."; ``expected`` says what its folder holds, for the message when it does not.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    protocols: ClassVar[tuple[str, ...]]
    expected: ClassVar[str]

    @abstractmethod
    def read(self, root: Path, protocol: str) -> Dataset:
        """The set under ``root`` by one of :attr:`protocols`, without decoding an image."""


def read_with(reader: DatasetReader, root: Path, protocol: str | None = None) -> Dataset:
    """What ``reader`` finds under ``root``, checked; its first protocol when ``protocol`` is None.

    Raises :class:`BadInput`, naming the set, for a missing folder, an unknown protocol, and anything in
    the result that would make figures meaningless, see :func:`vbench.data.check.checked`;
    :class:`VbenchError`, naming the line, where the reader fails.
    """
    _check_reader(reader)
    chosen = reader.protocols[0] if protocol is None else protocol
    if chosen not in reader.protocols:
        raise unknown_name(f"protocol of '{reader.name}'", chosen, reader.protocols)
    if not root.is_dir():
        raise BadInput(f"{root} is no folder; '{reader.name}' expects one with {reader.expected}")
    with explained(f"dataset '{reader.name}': its reader failed", reader, VbenchError):
        dataset = reader.read(root, chosen)
    what = f"dataset '{reader.name}' under {root}"
    if not isinstance(dataset, Dataset):
        returned = type(dataset).__name__
        raise BadInput(f"{what}: read() in {_code_of(type(reader))} returns a {returned}, not a Dataset")
    if (dataset.name, dataset.protocol) != (reader.name, chosen):
        found = shortened(f"'{dataset.name}' under '{dataset.protocol}'")
        raise BadInput(
            f"{what}: says that it is {found}, asked was '{chosen}' (read() in {_code_of(type(reader))})"
        )
    try:
        return replace(checked(dataset, what), reader=code_card(reader).get("source", ""))
    except BadInput as error:
        raise BadInput(f"{error} (read() in {_code_of(type(reader))})") from None


def _check_reader(reader: DatasetReader) -> None:
    """Refuse a reader that does not say what it reads, or says it wrongly."""
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
    """File and line of a reader's read(), those of its class where it is no function of Python's."""
    code = getattr(inspect.unwrap(cls.read), "__code__", None)
    return f"{code.co_filename}, line {code.co_firstlineno}" if code else place_of(cls)
