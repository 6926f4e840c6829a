"""Decoded images on disk: one file per set of images and size, rebuilt whenever it is not intact."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL
from filelock import Timeout

from vbench.data.base import Sample
from vbench.errors import VbenchError, refused
from vbench.files import lock_of
from vbench.progress import say

#: Part of every name: raise it when decoding changes, and old files are no longer found.
_FORMAT = 1

#: A CRC-32 of the pixels follows the .npy content, which np.load does not mind.
_CHECKSUM_BYTES = 4
_ROWS_AT_ONCE = 256


def cache_name(samples: Iterable[Sample], root: Path, size: tuple[int, int], resize_filter: str) -> str:
    """File name that changes with anything that could change a pixel.

    Root, relative paths, file sizes and modification times, target size, filter, Pillow's version.
    """
    digest = hashlib.sha256()
    head = [_FORMAT, PIL.__version__, str(root.resolve()), list(size), resize_filter]
    digest.update(json.dumps(head).encode())
    for sample in samples:
        try:
            status = (root / sample.path).stat()
            stamp = (status.st_size, status.st_mtime_ns)
        except OSError:
            stamp = None
        digest.update(json.dumps([sample.path, stamp]).encode())
    return f"{digest.hexdigest()[:32]}.npy"


def load_or_build(path: Path, shape: tuple[int, ...], rows: Iterable[np.ndarray], quiet: bool) -> np.ndarray:
    """Return the uint8 array stored at ``path``, read-only and mapped; store ``rows`` first if need be.

    ``rows`` (arrays of ``shape[1:]``, in order) is consumed only when no intact file is there. One process
    builds while others wait. Raises :class:`VbenchError` when the disk refuses, and whatever ``rows``
    raises; neither leaves a file behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path, quiet):
            stored = _read(path, shape)
            if stored is None:
                _write(path, shape, rows)
                stored = _read(path, shape)
    except OSError as error:
        raise VbenchError(f"cannot use the image cache {path}: {refused(error)}") from error
    if stored is None:
        raise VbenchError(f"the image cache {path} does not read back as written; check the disk")
    return stored


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


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    header = _header(shape)
    try:
        if path.stat().st_size != len(header) + math.prod(shape) + _CHECKSUM_BYTES:
            return None
        with path.open("rb") as file:
            if file.read(len(header)) != header:
                return None
            file.seek(-_CHECKSUM_BYTES, os.SEEK_END)
            stored = int.from_bytes(file.read(), "big")
    except FileNotFoundError:
        return None
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    checksum = 0
    for start in range(0, len(array), _ROWS_AT_ONCE):
        checksum = zlib.crc32(array[start : start + _ROWS_AT_ONCE], checksum)
    return array if checksum == stored else None


def _write(path: Path, shape: tuple[int, ...], rows: Iterable[np.ndarray]) -> None:
    # The caller holds the lock, so the name can be fixed: what a killed process left is overwritten.
    part = path.with_suffix(".part")
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
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
