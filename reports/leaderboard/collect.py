"""Reading what people hand in: every record of some folders, verified, and every refusal by name."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from vbench.errors import BadInput
from vbench.printable import one_line
from vbench.record import Record
from vbench.reports.leaderboard.publish import MARK, is_site
from vbench.reports.leaderboard.shown import shown_roots
from vbench.reports.verify import Mark, parse, verify
from vbench.store import LARGEST

#: Where ``vbench audit`` keeps what it found: no records.
_NOT_RECORDS = "audits"


@dataclass(frozen=True)
class Found:
    """A record that stands, without its per-query values. ``source``: its file (and line), as shown."""

    record: Record
    source: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Refused:
    """What is not taken, and why."""

    source: str
    reasons: tuple[str, ...]

    @property
    def line(self) -> str:
        """One line for a terminal."""
        return f"{self.source}: {'; '.join(self.reasons)}"


@dataclass
class Collected:
    """Everything that was read."""

    found: list[Found] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def add(self, source: str, text: bytes, file_name: str | None) -> None:
        """Take what one file or line holds."""
        record = parse(text)
        if not isinstance(record, Record):
            self.refuse(source, *record)
            return
        verdict = verify(record, file_name)
        if not verdict.stands:
            self.refuse(source, *verdict.reasons)
            return
        # A thousand records with the values of every query would not fit where a site is made.
        self.found.append(Found(record.without_queries(), source, tuple(verdict.marks)))

    def refuse(self, source: str, *reasons: str) -> None:
        """Note a refusal; what strangers wrote is made safe to print."""
        self.refused.append(Refused(source, tuple(one_line(reason) for reason in reasons)))


def collect(roots: Sequence[Path]) -> Collected:
    """Read and verify every ``*.json`` and ``*.jsonl`` in and under some folders; or single such files.

    Links are not followed, hidden folders, former sites and ``audits`` are passed over. Raises
    :class:`BadInput` for a root that does not exist; nothing inside one is fatal.
    """
    collected = Collected()
    for root, name in zip(roots, shown_roots(roots), strict=True):
        if root.is_dir():
            for path in _files(root, name, collected):
                _read(path, _below(path, root, name), collected)
        elif root.is_file() and root.suffix in (".json", ".jsonl"):
            _read(root, name, collected)
        else:
            what = "is neither a folder nor a .json or .jsonl file" if root.exists() else "does not exist"
            raise BadInput(f"{root} {what}; give folders of run records, as vbench run writes them")
    return collected


def _files(root: Path, name: str, collected: Collected) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        collected.refuse(_below(Path(error.filename), root, name), error.strerror or str(error))

    for folder, folders, files in os.walk(root, onerror=unreadable):
        here = Path(folder)
        folders[:] = sorted(one for one in folders if not _passed_over(here / one))
        for linked in [one for one in folders if (here / one).is_symlink()]:
            collected.refuse(_below(here / linked, root, name), "a link to a folder; links are not followed")
            folders.remove(linked)
        for one in sorted(files):
            if one.endswith((".json", ".jsonl")) and not one.startswith(".") and one != MARK:
                yield here / one


def _passed_over(folder: Path) -> bool:
    return folder.name.startswith(".") or folder.name == _NOT_RECORDS or is_site(folder)


def _below(path: Path, root: Path, name: str) -> str:
    return f"{name}/{one_line(path.relative_to(root).as_posix())}"


def _read(path: Path, source: str, collected: Collected) -> None:
    archive = path.suffix == ".jsonl"
    try:
        # Neither a link nor a pipe that would never end.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                collected.refuse(source, "not a regular file")
            elif archive:
                _read_lines(file, source, collected)
            else:
                text = file.read(LARGEST + 1)
                if len(text) > LARGEST:
                    collected.refuse(source, _too_large("file"))
                else:
                    collected.add(source, text, path.name)
    except OSError as error:
        linked = "a link; links are not followed" if path.is_symlink() else None
        collected.refuse(source, linked or error.strerror or str(error))


def _read_lines(file: BinaryIO, source: str, collected: Collected) -> None:
    number = 0
    while line := file.readline(LARGEST + 1):
        number += 1
        if len(line) > LARGEST:
            collected.refuse(f"{source}:{number}", f"{_too_large('line')}; the rest of the file is not read")
            return
        if line.strip():
            collected.add(f"{source}:{number}", line, None)


def _too_large(what: str) -> str:
    return f"the {what} is larger than {LARGEST >> 20} MiB; no run record is"
