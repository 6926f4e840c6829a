"""A folder of run records: found by configuration, written whole or not at all."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from vbench.files import write_atomically
from vbench.printable import json_text
from vbench.record import Record, in_file_names
from vbench.shape import misshapen

#: The most that one record may take on disk.
LARGEST = 64 << 20


@dataclass(frozen=True)
class Contents:
    """What a store holds: readable records, and the files that are not, each with the reason."""

    records: list[Record]
    broken: list[tuple[Path, str]]


class RunStore:
    """Records under one folder, one JSON file each; or, read-only, an archive: one file, a record a line."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, record_id: str) -> Record | None:
        """The record of a configuration, None when there is none that can be read."""
        for path in self.root.glob(f"*-{record_id}.json"):
            record = _read(path)
            if isinstance(record, Record):
                return record
        return None

    def index(self) -> dict[str, Path]:
        """Record id -> file, by the names of the files alone."""
        return {path.stem.rpartition("-")[2]: path for path in self.root.glob("*.json")}

    def read(self, path: Path) -> Record | None:
        """The record in a file, None when it cannot be read."""
        found = _read(path)
        return found if isinstance(found, Record) else None

    def path(self, record: Record) -> Path:
        """Where a record is, or will be, stored."""
        return self.root / record.file_name

    def write(self, record: Record) -> Path:
        """Store a record, replacing one of the same configuration; returns its path."""
        path = self.path(record)
        write_atomically(path, record.model_dump_json(indent=1) + "\n")
        return path

    def perturbation_path(self, record: Record, attack: str) -> Path:
        """Where what an attack learnt for a record is, or will be, stored."""
        return self.root / "perturbations" / f"{in_file_names(attack)}-{record.id}.safetensors"

    def perturbation_paths(self, record: Record) -> list[Path]:
        """The stored perturbations of a record: none, or one an attack."""
        return sorted((self.root / "perturbations").glob(f"*-{record.id}.safetensors"))

    def read_all(self) -> Contents:
        """Every record, oldest first; what cannot be read is listed by file (and line), never fatal."""
        records, broken = [], []
        for path, found in self._found():
            if isinstance(found, Record):
                records.append(found)
            else:
                broken.append((path, found))
        return Contents(sorted(records, key=lambda record: record.created), broken)

    def _found(self) -> Iterator[tuple[Path, Record | str]]:
        if not self.root.is_file():
            yield from ((path, _read(path)) for path in sorted(self.root.glob("*.json")))
            return
        for number, line in enumerate(self.root.read_bytes().splitlines(), start=1):
            yield Path(f"{self.root}:{number}"), _parsed(line)


def to_archive(records: Iterable[Record]) -> str:
    """One record a line, without what is stored of every query: all tables, no paired statistics."""
    return "".join(json_text(record.model_dump_json(exclude={"per_query"})) + "\n" for record in records)


def _read(path: Path) -> Record | str:
    try:
        # A pipe or a device would never end.
        if not stat.S_ISREG(path.stat().st_mode):
            return "not a file"
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
    except OSError as error:
        return error.strerror or str(error)
    return _parsed(text) if len(text) <= LARGEST else f"larger than {LARGEST >> 20} MiB; no run record is"


def _parsed(text: bytes) -> Record | str:
    try:
        record = Record.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where + ': ' if where else ''}{first['msg']}"
    return misshapen(record) or record
