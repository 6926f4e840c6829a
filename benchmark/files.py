"""Writing files so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from vbench.errors import VbenchError, refused


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write ``content`` to ``path`` through a temporary file beside it, creating the folder.

    Raises :class:`VbenchError` when the disk refuses; nothing is left behind then.
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
    """Raise :class:`VbenchError` where no file can be made in ``folder``, which is created.

    For before hours of work whose result goes there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise VbenchError(f"cannot write to {folder}: {refused(error)}") from error
