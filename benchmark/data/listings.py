"""The text files that data sets ship: one line of ids, or lines of "path label"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vbench.data.disk_names import MOST_DIGITS, Names
from vbench.data.folders import IMAGE_SUFFIXES, check_suffix
from vbench.errors import BadInput, shortened

_ID = re.compile(rf"[0-9]{{1,{MOST_DIGITS}}}")
_WHOLE = f"a whole number from 0 on, of at most {MOST_DIGITS} digits"


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
    path = _on_disk(root, name)
    lines = _read_lines(path)
    for number, line in enumerate(lines[1:], start=2):
        if line.strip():
            raise BadInput(f"{path}, line {number}: expected one line of comma-separated ids, found another")
    entries = [entry.strip() for entry in lines[0].split(",")] if lines[0].strip() else []
    seen: set[int] = set()
    for entry in entries:
        if not _ID.fullmatch(entry):
            found = f"{path}, line 1: {shortened(entry)!r} is no identity number"
            raise BadInput(f"{found}, {_WHOLE}; write ids like 6,10,17")
        if int(entry) in seen:
            raise BadInput(f"{path}, line 1: identity {int(entry)} is listed twice")
        seen.add(int(entry))
    if not seen:
        raise BadInput(f"{path}, line 1: no identity listed")
    return [int(entry) for entry in entries]


def read_list(root: Path, name: str) -> list[Line]:
    """Read ``root/name``, lines of "relative/path label", in the order written.

    Paths may be written with backslashes and in other case than on disk. Raises :class:`BadInput`, naming
    file and line: missing file, a line without a whole-number label or with more columns, a path that is
    absolute or leaves the root, an image in a format that is not read, a path twice, no line at all.
    """
    path = _on_disk(root, name)
    found: list[Line] = []
    first_seen: dict[str, int] = {}
    names = Names(root)
    for number, text in enumerate(_read_lines(path), start=1):
        if not text.strip():
            continue
        where = f"{path}, line {number}"
        written, label = _columns(text.strip(), where)
        image = _inside(written, where)
        check_suffix(image, where)
        if not (root / image).exists():
            image = names.find(image) or image
        if image in first_seen:
            raise BadInput(f"{where}: {image} is listed already in line {first_seen[image]}")
        first_seen[image] = number
        found.append(Line(image, label, number))
    if not found:
        raise BadInput(f"{path}: no image listed")
    return found


def _columns(text: str, where: str) -> tuple[str, int]:
    """Path and label of a line; a path may hold spaces."""
    parts = text.rsplit(maxsplit=1)
    if len(parts) != 2 or not _ID.fullmatch(parts[1]):
        raise BadInput(
            f"{where}: expected 'relative/path label', the label {_WHOLE}, found {shortened(text)!r}"
        )
    *before, last = parts[0].split()
    if not _is_image(last) and any(map(_is_image, before)):
        columns = len(text.split())
        raise BadInput(
            f"{where}: expected two columns, 'relative/path label', found {columns}; remove the others"
        )
    return parts[0], int(parts[1])


def _is_image(text: str) -> bool:
    return PurePosixPath(text).suffix.lower() in IMAGE_SUFFIXES


def refuse_shared_images(root: Path, lists: dict[str, list[Line]]) -> None:
    """Raise :class:`BadInput`, naming file and line, when two of a set's lists (by name) share an image."""
    owner: dict[str, str] = {}
    for name, lines in lists.items():
        for line in lines:
            if line.path in owner:
                where = f"{root / name}, line {line.number}"
                raise BadInput(f"{where}: {line.path} is also in {owner[line.path]}; no image may be in both")
        owner.update((line.path, name) for line in lines)


def _inside(text: str, where: str) -> str:
    image = PurePosixPath(text.replace("\\", "/"))
    drive = ":" in (image.parts or ("",))[0]
    if image.is_absolute() or drive or ".." in image.parts or "\0" in text or not image.parts:
        raise BadInput(f"{where}: {shortened(text)!r} must be a path inside the data set's folder")
    return str(image)


def _on_disk(root: Path, name: str) -> Path:
    path = root / name
    return path if path.exists() else root / (Names(root).find(name) or name)


def _read_lines(path: Path) -> list[str]:
    """The lines of a file without their ends, which may be those of any system."""
    try:
        # Not splitlines: names may hold characters that it takes for ends of lines.
        return path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise BadInput(f"{path} is missing; it comes with the data set") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not a text file (UTF-8); save it as one") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from None
