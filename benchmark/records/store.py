"""A folder of run records: looked up by configuration, written atomically."""

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
from vbench.records.record import Record, canonical, config_id, in_file_names

#: Largest record file in bytes.
LARGEST = 64 << 20


@dataclass(frozen=True)
class Contents:
    """Contents of a store: readable records, and unreadable files, each with the reason.

    ``doubted``: files of readable records that were changed after the run (:meth:`Record.fault`), with why.
    """

    records: list[Record]
    broken: list[tuple[Path, str]]
    doubted: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """Warnings for users of these records, one line each."""
        return [
            *(f"skipped {path}: {reason}" for path, reason in self.broken),
            *(f"warning: {path}: {reason}; shown as it is" for path, reason in self.doubted),
            *older_note(self.records),
        ]


class RunStore:
    """Records in one folder, one JSON file each; or, read-only, an archive: one file, one record per line."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._reported: set[Path] = set()

    def find(self, config: Mapping[str, Any]) -> Record | None:
        """The record of a configuration, None if there is none.

        A file's name contains the hash of a configuration, but is not trusted: its record is returned only if
        it has this configuration and is as a run wrote it (:meth:`Record.fault`). Other files are left
        alone, and reported in one line on standard error.
        """
        wanted = canonical(config)
        record = self.get(config_id(dict(config)))
        return record if record is not None and canonical(record.config) == wanted else None

    def get(self, record_id: str, files: Iterable[Path] | None = None) -> Record | None:
        """The record with this id, the hash of its configuration; checked as in :meth:`find`.

        ``files``: where to look, from :meth:`index`; by default all files with the id in their name.
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
            if path not in self._reported:
                self._reported.add(path)
                say(f"passed over {path}: {reason}; the run is done again")
        return None

    def index(self) -> dict[str, list[Path]]:
        """Record id -> files, by file name only."""
        found: dict[str, list[Path]] = {}
        for path in sorted(self.root.glob("*.json")):
            found.setdefault(path.stem.rpartition("-")[2], []).append(path)
        return found

    def path(self, record: Record) -> Path:
        """Where a record is, or will be, stored: never in the file of another record."""
        name, number = record.file_name, 1
        while not _free_for(self.root / name, record):
            number += 1
            name = f"{record.file_name.removesuffix(f'-{record.id}.json')}-{number}-{record.id}.json"
        return self.root / name

    def write(self, record: Record) -> Path:
        """Store a record, sealing it if needed, replacing one of its configuration; returns the path."""
        if not record.digest:
            record.seal()
        path = self.path(record)
        write_atomically(path, record.model_dump_json(indent=1) + "\n")
        return path

    def perturbation_path(self, record: Record, attack: str) -> Path:
        """Where the perturbation that an attack learnt for a record is, or will be, stored."""
        return self.root / "perturbations" / f"{in_file_names(attack)}-{record.id}.safetensors"

    def perturbation_paths(self, record: Record) -> list[Path]:
        """The stored perturbations of a record, at most one per attack."""
        return sorted((self.root / "perturbations").glob(f"*-{record.id}.safetensors"))

    def read_all(self) -> Contents:
        """Every record, oldest first; unreadable ones are listed by file (and line), not raised."""
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
    """One record per line without ``per_query``: enough for all tables, not for paired statistics."""
    short = (record.without_queries().model_dump_json(exclude={"per_query"}) for record in records)
    return "".join(f"{json_text(text)}\n" for text in short)


def older_note(records: Iterable[Record]) -> list[str]:
    """One line if some records have a configuration of an older version; else empty."""
    kinds = [record.older for record in records]
    if not any(kinds):
        return []
    which = "all runs" if all(kinds) else f"{sum(kinds)} of {len(kinds)} runs"
    return [
        f"Older identity: {which} were recorded before ids covered the content of images, the code of "
        "plugins and the arithmetic; no later run reuses their results"
    ]


def _free_for(path: Path, record: Record) -> bool:
    """Whether a record may be written there: only the same configuration's or a broken file is replaced."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return True
    if stat.S_ISLNK(status.st_mode):
        # The link is replaced, not its target.
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
        # Reading a pipe or a device would never end.
        if not stat.S_ISREG(path.stat().st_mode):
            return "not a file"
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
    except OSError as error:
        return error.strerror or str(error)
    return _parsed(text) if len(text) <= LARGEST else f"larger than {LARGEST >> 20} MiB; no run record is"


def _parsed(text: bytes) -> Record | str:
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where + ': ' if where else ''}{first['msg']}"
