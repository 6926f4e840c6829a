"""Names under a data set's folder: copies made on other systems have other upper and lower case."""

from __future__ import annotations

import os
from pathlib import Path

from vbench.errors import BadInput, shortened

#: Of an identity number; what has more does not fit 64 bits.
MOST_DIGITS = 18


class Names:
    """Finds files and folders below ``root`` whatever their case; each folder is listed once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, relative: str) -> str | None:
        """``relative``, a path with slashes, as it is called on disk; None where there is nothing.

        Raises :class:`BadInput` for two names that differ in case alone, and a folder that cannot be listed.
        """
        found = ""
        for part in relative.split("/"):
            names = self._in(found).get(part.lower(), [])
            if len(names) > 1:
                raise two_cases(self._root / found, *names[:2])
            if not names:
                return None
            found = f"{found}/{names[0]}" if found else names[0]
        return found

    def _in(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._listed:
            listed: dict[str, list[str]] = {}
            for entry in entries(self._root / folder):
                listed.setdefault(entry.name.lower(), []).append(entry.name)
            self._listed[folder] = listed
        return self._listed[folder]


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name, and nothing where there is none; :class:`BadInput` where it is shut."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise BadInput(f"{folder} cannot be listed: {error.strerror or error}") from None


def two_cases(folder: Path, one: str, other: str) -> BadInput:
    """The error for two names in a folder of which the data set can have only one."""
    names = f"'{shortened(one)}' and '{shortened(other)}'"
    return BadInput(
        f"{folder}: {names} differ in upper and lower case alone; remove the one that is not the data set's"
    )


def is_text(name: str) -> bool:
    """Whether a file's name is UTF-8; what is not can stand in no record."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
