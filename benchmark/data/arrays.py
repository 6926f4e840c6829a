"""Decoded images on disk: one file per set of images and size, rebuilt whenever it is not intact."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL
from filelock import Timeout

from vbench.errors import VbenchError, refused
from vbench.files import lock_of
from vbench.progress import say

#: Part of every name: raise it when resizing changes, and old files are no longer found.
_FORMAT = 2

#: A CRC-32 of the pixels follows the .npy content, which np.load does not mind.
_CHECKSUM_BYTES = 4
_ROWS_AT_ONCE = 256


def array_name(hashes: Sequence[str], size: tuple[int, int], resize_filter: str) -> str:
    """File name of images with these content hashes in this order, at one size: equal names, equal pixels."""
    return f"{_digest([_FORMAT, PIL.__version__, list(size), resize_filter, *hashes])}.npy"


def listing_name(paths: Sequence[str], root: Path, size: tuple[int, int], resize_filter: str) -> str:
    """Name for a listing while its images are decoded, when nobody knows yet what they show."""
    return f"{_digest([str(root.resolve()), list(size), resize_filter, *paths])}.npy"


def _digest(key: list[object]) -> str:
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]


def load_or_build(
    path: Path,
    shape: tuple[int, ...],
    rows: Iterable[np.ndarray],
    quiet: bool,
    stored: Callable[[], Path | None] | None = None,
) -> np.ndarray:
    """Return the uint8 array stored at ``path``, read-only and mapped; store ``rows`` first if need be.

    ``rows`` (arrays of ``shape[1:]``, in order) is consumed only when no intact file is there. One process
    builds while others wait. Where only the rows tell what the file is called, ``path`` names the lock alone
    and ``stored`` the file: asked when the lock is held (None where it is not known yet), and after the rows.
    Raises :class:`VbenchError` when the disk refuses, and whatever ``rows`` raises; neither leaves a file
    behind.
    """
    where = stored or (lambda: path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path, quiet):
            found = _read(where(), shape)
            if found is None:
                _write(path.with_suffix(".part"), shape, rows, where)
                found = _read(where(), shape)
    except OSError as error:
        raise VbenchError(f"cannot use the image cache {path}: {refused(error)}") from error
    if found is None:
        raise VbenchError(f"the image cache {path} does not read back as written; check the disk")
    return found


@contextmanager
def _locked(path: Path, quiet: bool) -> Iterator[None]:
    lock = lock_of(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say("waiting for another process that decodes the same images", quiet)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": np.dtype(np.uint8).str, "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def _read(path: Path | None, shape: tuple[int, ...]) -> np.ndarray | None:
    header = _header(shape)
    if path is None:
        return None
    try:
        if path.stat().st_size != len(header) + math.prod(shape) + _CHECKSUM_BYTES:
            return None
        with path.open("rb") as file:
            if file.read(len(header)) != header:
                return None
            file.seek(-_CHECKSUM_BYTES, os.SEEK_END)
            stored = int.from_bytes(file.read(), "big")
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return None
    checksum = 0
    for start in range(0, len(array), _ROWS_AT_ONCE):
        checksum = zlib.crc32(array[start : start + _ROWS_AT_ONCE], checksum)
    return array if checksum == stored else None


def _write(part: Path, shape: tuple[int, ...], rows: Iterable[np.ndarray], where: Callable[[], Path]) -> None:
    # The caller holds the lock, so the name can be fixed: what a killed process left is overwritten.
    checksum = 0
    try:
        part.unlink(missing_ok=True)
        with part.open("xb") as file:
            file.write(_header(shape))
            for row in rows:
                data = np.ascontiguousarray(row, dtype=np.uint8)
                file.write(data)
                checksum = zlib.crc32(data, checksum)
            file.write(checksum.to_bytes(_CHECKSUM_BYTES, "big"))
        part.replace(where())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
