"""Safe names from untrusted text; publishes a site completely or not at all."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from vbench.core.errors import BadInput, VbenchError
from vbench.core.text import one_line

_LONGEST_SLUG = 70


def shown_roots(roots: Sequence[Path]) -> list[str]:
    """A name for each folder: the shortest unique end of its path.

    A whole path would reveal details of the machine that made the site.
    """
    parts = [root.resolve().parts[1:] or ("folder",) for root in roots]
    depth = 1
    while True:
        names = [one_line("/".join(one[-depth:])) for one in parts]
        clear = all(parts[i] == parts[j] for i, one in enumerate(names) for j in range(i) if one == names[j])
        if clear or depth > max(map(len, parts)):
            return names
        depth += 1


class Slugs:
    """File names from untrusted text: ASCII letters, digits and hyphens, different for each text.

    A text that is already such a name is kept; any other gets part of its hash, so that names do not depend
    on the rest of the site.
    """

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def of(self, text: str) -> str:
        """The file name for a text; equal texts have equal names."""
        digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
        name = re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")[:_LONGEST_SLUG].strip("-")
        if not name or name != text:
            name = f"{name}-{digest[:8]}" if name else digest[:8]
        if self._texts.setdefault(name, text) != text:
            name = f"{name}-{digest}"
            self._texts[name] = text
        return name


MARK = "vbench-site.json"

_FORMAT = "vbench-leaderboard/1"

_LARGEST_MARK = 1 << 16


def is_site(folder: Path) -> bool:
    """Whether a folder is a site made by :func:`publish`."""
    mark = folder / MARK
    try:
        if mark.is_symlink() or not mark.is_file() or mark.stat().st_size > _LARGEST_MARK:
            return False
        found = json.loads(mark.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("format") == _FORMAT


def check_place(out: Path) -> None:
    """Raise :class:`BadInput`, before any work, for an unsuitable output folder."""
    if out.is_symlink():
        raise BadInput(f"--out {out} is a link; name the folder itself")
    if out.is_dir():
        if any(out.iterdir()) and not is_site(out):
            raise BadInput(f"--out {out} holds something that is no site of vbench; name another folder")
    elif out.exists():
        raise BadInput(f"--out {out} is a file; name a folder")


def publish(out: Path, pages: Mapping[str, str], facts: Mapping[str, object]) -> None:
    """Write a site: ``pages`` by their path in it, ``facts`` about it into its mark.

    It is written next to ``out`` and then moved there; an earlier site is removed. Raises :class:`BadInput`
    as :func:`check_place` and :class:`VbenchError` if writing fails; then nothing has changed.
    """
    check_place(out)
    mark = json.dumps({"format": _FORMAT, **facts}, indent=1) + "\n"
    try:
        with _folder_next_to(out) as made:
            for name, text in {**pages, MARK: mark}.items():
                path = made / name
                if not path.resolve().is_relative_to(made.resolve()):
                    raise VbenchError(f"page {name!r} would leave the site")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="\n")
            _swap(made, out)
    except OSError as error:
        raise VbenchError(f"cannot write {out}: {error.strerror or error}") from error


@contextmanager
def _folder_next_to(out: Path) -> Iterator[Path]:
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        made = folder / "site"
        # A temporary folder is private to its owner, but a site must be readable by a web server.
        made.mkdir(mode=0o755)
        yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _swap(made: Path, out: Path) -> None:
    if not out.exists():
        made.rename(out)
        return
    former = made.parent / "former"
    out.rename(former)
    try:
        made.rename(out)
    except OSError:
        former.rename(out)
        raise
