"""The text files that data sets ship: one line of ids, or lines of "path label"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vbench.errors import BadInput

_ID = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Line:
    """Line ``number`` (from 1) of a list: ``path`` relative to the set's root, ``label`` a class number."""

    path: str
    label: int
    number: int


def read_ids(root: Path, name: str) -> list[int]:
    """Read ``root/name``, one line of comma-separated identity numbers, in the order written.

    Raises :class:`BadInput`, naming file and line: missing file, an entry that is no number, an id twice,
    no id at all, text after the first line.
    """
    path = root / name
    lines = _read_lines(path)
    for number, line in enumerate(lines[1:], start=2):
        if line.strip():
            raise BadInput(f"{path}, line {number}: expected one line of comma-separated ids, found another")
    entries = [entry.strip() for entry in lines[0].split(",")] if lines else []
    seen: set[int] = set()
    for entry in entries:
        if not _ID.fullmatch(entry):
            raise BadInput(f"{path}, line 1: {entry!r} is no identity number; write ids like 6,10,17")
        if int(entry) in seen:
            raise BadInput(f"{path}, line 1: identity {int(entry)} is listed twice")
        seen.add(int(entry))
    if not seen:
        raise BadInput(f"{path}, line 1: no identity listed")
    return [int(entry) for entry in entries]


def read_list(root: Path, name: str) -> list[Line]:
    """Read ``root/name``, lines of "relative/path label", in the order written.

    Raises :class:`BadInput`, naming file and line: missing file, a line without a whole-number label, an
    absolute path or one that leaves the root, a path twice, no line at all.
    """
    path = root / name
    found: list[Line] = []
    first_seen: dict[str, int] = {}
    for number, text in enumerate(_read_lines(path), start=1):
        if not text.strip():
            continue
        parts = text.rsplit(maxsplit=1)
        if len(parts) != 2 or not _ID.fullmatch(parts[1]):
            raise BadInput(f"{path}, line {number}: expected 'relative/path label', found {text.strip()!r}")
        image = _inside(parts[0].strip(), path, number)
        if image in first_seen:
            raise BadInput(f"{path}, line {number}: {image} is listed already in line {first_seen[image]}")
        first_seen[image] = number
        found.append(Line(image, int(parts[1]), number))
    if not found:
        raise BadInput(f"{path}: no image listed")
    return found


def refuse_shared_images(root: Path, lists: dict[str, list[Line]]) -> None:
    """Raise :class:`BadInput`, naming file and line, when two of a set's lists (by name) share an image."""
    owner: dict[str, str] = {}
    for name, lines in lists.items():
        for line in lines:
            if line.path in owner:
                where = f"{root / name}, line {line.number}"
                raise BadInput(f"{where}: {line.path} is also in {owner[line.path]}; no image may be in both")
        owner.update((line.path, name) for line in lines)


def _inside(text: str, source: Path, number: int) -> str:
    image = PurePosixPath(text)
    if image.is_absolute() or ".." in image.parts or "\\" in text or "\0" in text or not image.parts:
        raise BadInput(f"{source}, line {number}: {text!r} must be a path inside the data set's folder")
    return str(image)


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise BadInput(f"{path} is missing; it comes with the data set") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not a text file (UTF-8)") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from None
