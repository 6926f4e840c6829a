"""A folder of run records: found by configuration, written whole or not at all."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vbench.core.files import write_atomically
from vbench.core.progress import say
from vbench.core.text import json_text
from vbench.records.record import Record, canonical, config_id, in_file_names, misshapen

#: The most that one record may take on disk.
LARGEST = 64 << 20


@dataclass(frozen=True)
class Contents:
    """What a store holds: readable records, and the files that are not, each with the reason.

    ``doubted``: files whose record is among the readable ones and is not what a run wrote, and why.
    """

    records: list[Record]
    broken: list[tuple[Path, str]]
    doubted: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """What whoever reads these records must be told, one line each."""
        return [
            *(f"skipped {path}: {reason}" for path, reason in self.broken),
            *(f"warning: {path}: {reason}; shown as it is" for path, reason in self.doubted),
            *older_note(self.records),
        ]


class RunStore:
    """Records under one folder, one JSON file each; or, read-only, an archive: one file, a record a line."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._told: set[Path] = set()

    def find(self, config: Mapping[str, Any]) -> Record | None:
        """The record of a configuration, None where there is none.

        A file is called by the hash of a configuration, and anybody can call a file anything: its record is
        returned only if it is of this very configuration and as a run wrote it (:meth:`Record.fault`). Any
        other is passed over, with one line on standard error, and stays.
        """
        wanted = canonical(config)
        record = self.get(config_id(dict(config)))
        return record if record is not None and canonical(record.config) == wanted else None

    def get(self, record_id: str, files: Iterable[Path] | None = None) -> Record | None:
        """The record with an id, which names its configuration; checked as by :meth:`find`.

        ``files``: where to look, from :meth:`index`; without it, in every file that is called by the id.
        """
        found = sorted(self.root.glob(f"*-{record_id}.json")) if files is None else files
        for path in found:
            record, reason = _read(path), None
            if isinstance(record, str):
                reason = record
            elif record.id != record_id:
                reason = f"it holds the record {record.id[:40]}"
            else:
                reason = record.fault()
            if not isinstance(record, str) and reason is None:
                return record
            if path not in self._told:
                self._told.add(path)
                say(f"passed over {path}: {reason}; the run is done again")
        return None

    def index(self) -> dict[str, list[Path]]:
        """Record id -> files, by their names alone."""
        found: dict[str, list[Path]] = {}
        for path in sorted(self.root.glob("*.json")):
            found.setdefault(path.stem.rpartition("-")[2], []).append(path)
        return found

    def path(self, record: Record) -> Path:
        """Where a record is, or will be, stored: never in a file that is another's."""
        name, number = record.file_name, 1
        while not _free_for(self.root / name, record):
            number += 1
            name = f"{record.file_name.removesuffix(f'-{record.id}.json')}-{number}-{record.id}.json"
        return self.root / name

    def write(self, record: Record) -> Path:
        """Store a record, sealed if it is not yet, in place of one of its configuration; returns the path."""
        if not record.digest:
            record.seal()
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
        records, broken, doubted = [], [], []
        seen: dict[str, Path] = {}
        for path, found in self._found():
            if not isinstance(found, Record):
                broken.append((path, found))
                continue
            reason = found.fault()
            if reason is None and found.digest in seen:
                broken.append((path, f"the same record as {seen[found.digest].name}"))
                continue
            if found.digest:
                seen.setdefault(found.digest, path)
            records.append(found)
            if reason is not None:
                doubted.append((path, reason))
        return Contents(sorted(records, key=lambda record: record.created), broken, doubted)

    def _found(self) -> Iterator[tuple[Path, Record | str]]:
        if not self.root.is_file():
            yield from ((path, _read(path)) for path in sorted(self.root.glob("*.json")))
            return
        for number, line in enumerate(self.root.read_bytes().splitlines(), start=1):
            yield Path(f"{self.root}:{number}"), _parsed(line)


def to_archive(records: Iterable[Record]) -> str:
    """One record a line, without what is stored of every query: all tables, no paired statistics."""
    short = (record.without_queries().model_dump_json(exclude={"per_query"}) for record in records)
    return "".join(f"{json_text(text)}\n" for text in short)


def older_note(records: Iterable[Record]) -> list[str]:
    """One line where some records have a configuration of an older kind; nothing where none has."""
    kinds = [record.older for record in records]
    if not any(kinds):
        return []
    which = "all runs" if all(kinds) else f"{sum(kinds)} of {len(kinds)} runs"
    return [
        f"Older identity: {which} were recorded before ids covered the content of images, the code of "
        "plugins and the arithmetic: their ids name less, and no later run takes their figures over"
    ]


def _free_for(path: Path, record: Record) -> bool:
    """Whether a record may be written there: nothing is lost but this record itself, or what is broken."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return True
    if stat.S_ISLNK(status.st_mode):
        # The link is replaced, not what it points to.
        return True
    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
        return False
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return True
    return isinstance(found, dict) and canonical(found.get("config")) == canonical(record.config)


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
