"""Atomic writes, locks, cache and run folders."""

from __future__ import annotations

import errno
import os
import re
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from vbench.core.errors import BadInput, VbenchError, refused

if TYPE_CHECKING:
    from filelock import FileLock


#: Names of :func:`write_atomically`'s temporary files, for the file types in a runs folder.
_LEFT = re.compile(r"\..+\.(json|safetensors)\.[a-z0-9_]{8}")

_DAY = 24 * 3600.0


def split_entry(path: str | Path) -> tuple[Path, str | None]:
    """Split ``file.pth::entry`` into file and entry; the entry is None for ``file.pth``."""
    file, colons, entry = str(path).rpartition("::")
    return (Path(file), entry) if colons and not Path(path).exists() else (Path(path), None)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write ``content`` to ``path`` through a temporary file in the same folder, which is created.

    Raises :class:`VbenchError` if writing fails; the temporary file is then removed.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise VbenchError(f"cannot write {path}: {refused(error)}") from error
        raise


def check_writable(folder: Path) -> None:
    """Raise :class:`BadInput` if no file can be made in ``folder``, or the folder cannot be made.

    On a full or failing disk it is a :class:`VbenchError`. Called before hours of work whose result goes
    there. Leaves no file or folder.
    """
    there = next((one for one in (folder, *folder.absolute().parents) if os.path.lexists(one)), folder)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR):
            raise VbenchError(f"cannot write to {folder}: {refused(error)}") from error
        raise BadInput(
            f"cannot write to {folder}: {error.strerror}; give a folder that you may write to"
        ) from error


def check_inside(root: Path, path: Path) -> Path:
    """Return ``path``; raises :class:`VbenchError` if a folder between ``root`` and it is a link.

    A link in an untrusted folder must not redirect writes. The root itself is the user's, and may be a link.
    """
    for folder in path.relative_to(root).parents[:-1]:
        if (root / folder).is_symlink():
            raise VbenchError(
                f"cannot write {path}: {root / folder} is a link, and what belongs to runs stays in their "
                "folder; put a folder there"
            )
    return path


def lock_of(path: Path) -> FileLock:
    """The lock file next to a path; raises :class:`VbenchError` for a link, as locking empties its target."""
    lock = path.with_suffix(".lock")
    if lock.is_symlink():
        raise VbenchError(f"cannot use {lock}: it is a link; delete it")
    from filelock import FileLock

    return FileLock(lock)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files older than a day, which killed processes left in ``folder``."""
    for left in folder.glob(".*"):
        with suppress(OSError):
            if _LEFT.fullmatch(left.name) and time.time() - left.lstat().st_mtime > _DAY:
                left.unlink()


CACHE_VARIABLE = "VBENCH_CACHE"


def cache_folder() -> Path:
    """The cache folder: ``VBENCH_CACHE`` if set, else ``vbench`` in the user's caches. Safe to delete."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("vbench"))


def runs_folder() -> Path:
    """The default folder of run records: ``runs`` in the working directory."""
    return Path("runs")
