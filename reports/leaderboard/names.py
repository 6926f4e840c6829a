"""Names that strangers chose; a site appears whole or not at all."""

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
    """What to call each folder: the shortest end of its path that no other one shares.

    A whole path would tell where on whose machine the site was made.
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
    """File names made of what strangers chose: ASCII letters, digits and hyphens, each text its own.

    A text that is such a name already keeps it; any other gets part of its hash, so that names stay the same
    whatever else is on the site.
    """

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def of(self, text: str) -> str:
        """The name for a text; the same text always gets the same."""
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
    """Whether a folder is a site that this made."""
    mark = folder / MARK
    try:
        if mark.is_symlink() or not mark.is_file() or mark.stat().st_size > _LARGEST_MARK:
            return False
        found = json.loads(mark.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("format") == _FORMAT


def check_place(out: Path) -> None:
    """Refuse, before any work, a place that a site may not take: :class:`BadInput`."""
    if out.is_symlink():
        raise BadInput(f"--out {out} is a link; name the folder itself")
    if out.is_dir():
        if any(out.iterdir()) and not is_site(out):
            raise BadInput(f"--out {out} holds something that is no site of vbench; name another folder")
    elif out.exists():
        raise BadInput(f"--out {out} is a file; name a folder")


def publish(out: Path, pages: Mapping[str, str], facts: Mapping[str, object]) -> None:
    """Write a site: ``pages`` by their path in it, ``facts`` about it into its mark.

    It is written beside ``out`` and then takes its place; a former site goes. Raises :class:`BadInput` as
    :func:`check_place` and :class:`VbenchError` when the disk refuses, and then nothing has changed.
    """
    check_place(out)
    mark = json.dumps({"format": _FORMAT, **facts}, indent=1) + "\n"
    try:
        with _beside(out) as made:
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
def _beside(out: Path) -> Iterator[Path]:
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        made = folder / "site"
        # A temporary folder is its owner's alone; a site is to be served.
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
