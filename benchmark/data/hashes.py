"""What the images under one root show, by hash: kept in the cache, trusted until a file is touched."""

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

#: Part of the file's name, with the decoder: raise it when decoding changes, and old hashes are not found.
_FORMAT = 1

#: A change within one tick of the file system's clock shows in no time stamp. Ticks are 10 ms at most, but
#: for file systems that count whole seconds, FAT even every second one.
_TICK_NS = 50_000_000
_COARSE_TICK_NS = 2_000_000_000
_SECOND_NS = 1_000_000_000


class Stamp(NamedTuple):
    """What changes when a file changes. Its owner can set ``mtime`` at will, but not ``ctime``."""

    size: int
    mtime: int
    ctime: int
    inode: int


def stamp_of(path: str) -> Stamp:
    """The present stamp of a file; raises :class:`OSError`."""
    # Asked of every image of a set: Path.stat() would take twice as long.
    status = os.stat(path)  # noqa: PTH116
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def settled_stamp(path: str) -> Stamp:
    """The stamp of a file, after waiting for a moment if it was changed just now; raises :class:`OSError`."""
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

    It holds no more entries than there are files under the root. A damaged one counts as empty.
    """

    def __init__(self, root: Path, cache: Path) -> None:
        self._root = root
        decoder = [_FORMAT, PIL.__version__, features.version("jpg"), features.version("zlib")]
        key = json.dumps([*decoder, str(root.resolve())])
        self.path = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.hashes"

    def read(self) -> dict[str, tuple[Stamp, str]]:
        """By relative path; raises :class:`OSError` where the file is there and cannot be read."""
        try:
            checksum, _, body = self.path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return {}
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            return {}
        return {path: (Stamp(*stamp), found) for path, (*stamp, found) in json.loads(body).items()}

    def add(self, entries: Mapping[str, tuple[Stamp, str]]) -> None:
        """Keep more, and leave out files that are gone.

        The caller holds the lock. Raises :class:`VbenchError` when the disk refuses to be written to, and
        :class:`OSError` when it refuses to be read.
        """
        known = {
            path: entry
            for path, entry in self.read().items()
            if path not in entries and (self._root / path).exists()
        }
        body = json.dumps({path: (*stamp, found) for path, (stamp, found) in {**known, **entries}.items()})
        checksum = hashlib.sha256(body.encode()).hexdigest()
        write_atomically(self.path, f"{checksum}\n{body}")
