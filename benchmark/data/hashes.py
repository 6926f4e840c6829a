"""Cached hashes of the decoded images under one root, valid until a file's stamp changes."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import PIL
from PIL import features

from vbench.core.files import write_atomically

#: Part of the cache file's name, as is the decoder's version. Raise it when decoding changes.
_FORMAT = 1

#: Two changes within one tick of the file system's clock have the same time stamp. Ticks are 10 ms at most,
#: but 1 s on file systems that store whole seconds, and 2 s on FAT.
_TICK_NS = 50_000_000
_COARSE_TICK_NS = 2_000_000_000
_SECOND_NS = 1_000_000_000


class Stamp(NamedTuple):
    """File status that changes with the file (times in ns). Users can set ``mtime``, but not ``ctime``."""

    size: int
    mtime: int
    ctime: int
    inode: int


def stamp_of(path: str) -> Stamp:
    """The current stamp of a file; raises :class:`OSError`."""
    # Called for every image of a set; Path.stat() takes twice as long.
    status = os.stat(path)  # noqa: PTH116
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def settled_stamp(path: str) -> Stamp:
    """The stamp of a file, after waiting one tick if it has just been changed; raises :class:`OSError`."""
    stamp = stamp_of(path)
    age = time.time_ns() - stamp.ctime
    if 0 <= age < _tick(stamp):
        time.sleep((_tick(stamp) - age) / _SECOND_NS)
        stamp = stamp_of(path)
    return stamp


def vouches(stamp: Stamp, at: int) -> bool:
    """Whether every change after the time ``at`` (ns since 1970) alters the stamp."""
    return at - stamp.ctime >= _tick(stamp)


def _tick(stamp: Stamp) -> int:
    return _COARSE_TICK_NS if stamp.ctime % _SECOND_NS == 0 else _TICK_NS


class HashFile:
    """Stamps and hashes of the files under ``root``, in one file of the folder ``cache``.

    Entries of deleted files are dropped. A damaged file counts as empty.
    """

    def __init__(self, root: Path, cache: Path) -> None:
        self._root = root
        decoder = [_FORMAT, PIL.__version__, features.version("jpg"), features.version("zlib")]
        key = json.dumps([*decoder, str(root.resolve())])
        self.path = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.hashes"

    def read(self) -> dict[str, tuple[Stamp, str]]:
        """Relative path -> (stamp, hash); raises :class:`OSError` if the file exists and cannot be read."""
        try:
            checksum, _, body = self.path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return {}
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            return {}
        return {path: (Stamp(*stamp), found) for path, (*stamp, found) in json.loads(body).items()}

    def add(self, entries: Mapping[str, tuple[Stamp, str]]) -> None:
        """Add entries, and drop those of files that no longer exist.

        The caller holds the lock. Raises :class:`VbenchError` if writing fails, :class:`OSError` if reading
        does.
        """
        known = {
            path: entry
            for path, entry in self.read().items()
            if path not in entries and (self._root / path).exists()
        }
        body = json.dumps({path: (*stamp, found) for path, (stamp, found) in {**known, **entries}.items()})
        checksum = hashlib.sha256(body.encode()).hexdigest()
        write_atomically(self.path, f"{checksum}\n{body}")
