"""Writing files so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from vbench.errors import VbenchError


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
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise VbenchError(f"cannot write {path}: {error.strerror or error}") from error
