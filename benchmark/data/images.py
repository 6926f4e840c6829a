"""The images of a data set: decoded once to one compact array, and hashed as they are decoded."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from vbench.data.arrays import array_name, listing_name, load_or_build
from vbench.data.base import Sample
from vbench.data.decode import Unreadable, check_size, content_hash, decode, open_rgb, whole_files_only
from vbench.data.hashes import HashFile, Stamp, settled_stamp, stamp_of, vouches
from vbench.errors import BadInput, VbenchError, refused
from vbench.files import lock_of
from vbench.progress import track

#: Decoded rows wait for the writer in portions, so that memory stays bounded for any number of images.
_PORTION = 256
_SHOWN = 5

T = TypeVar("T")


def load_images(
    samples: Sequence[Sample],
    root: Path,
    size: tuple[int, int],
    resize_filter: str = "lanczos",
    cache_dir: Path | None = None,
    label: str = "decoding images",
    quiet: bool = False,
) -> np.ndarray:
    """Decode ``samples`` under ``root`` to N x H x W x 3 uint8 RGB, as :meth:`Images.load` does."""
    return Images(root, cache_dir, quiet=quiet).load(samples, size, resize_filter, label)


class Images:
    """The images under one root, by relative path: their pixels, and hashes of what they show.

    ``cache`` is a folder for decoded images and hashes, None to keep nothing on disk; ``fresh`` trusts
    nothing that lies there and decodes anew. What a file showed when it was first used here it shows to the
    end: a file that changes while it is in use is a :class:`VbenchError`.
    """

    def __init__(
        self, root: Path, cache: Path | None = None, fresh: bool = False, quiet: bool = False
    ) -> None:
        self._root = Path(root)
        self._cache = None if cache is None else Path(cache)
        self._file = None if self._cache is None else HashFile(self._root, self._cache)
        self._fresh = fresh
        self._quiet = quiet
        self._entries: dict[str, tuple[Stamp, str]] = {}
        self._unsaved: dict[str, tuple[Stamp, str]] = {}
        self._used: dict[str, str] = {}

    def load(
        self,
        samples: Sequence[Sample],
        size: tuple[int, int],
        resize_filter: str = "lanczos",
        label: str = "decoding images",
    ) -> np.ndarray:
        """Decode ``samples`` to N x H x W x 3 uint8 RGB; grey images get three equal channels.

        ``size`` is (H, W) in pixels; each image is resized once with ``resize_filter`` ("lanczos" or
        "bilinear"), not at all when it has that size already. With a cache the array is stored there, and
        what comes back is read-only and mapped from disk; a later call decodes nothing unless a file, the
        size or the filter changed. ``label`` heads the progress display.

        Raises :class:`BadInput` that counts the files that are missing or no images and names the first five.
        """
        size = (size[0], size[1])
        check_size(size, resize_filter)
        shape = (len(samples), *size, 3)
        hashes: list[str] = []
        rows = self._rows(samples, lambda path: decode(path, size, resize_filter), hashes, label)
        if self._cache is None or not samples:
            images = np.empty(shape, dtype=np.uint8)
            for index, row in enumerate(rows):
                images[index] = row
            return images
        folder = self._cache

        def stored() -> Path | None:
            # While the lock is held: who waits for it must find what was learnt.
            self._keep()
            found = hashes or self.known(samples)
            return None if found is None else folder / array_name(found, size, resize_filter)

        place = stored()
        if place is None:
            listing = [sample.path for sample in samples]
            place = folder / listing_name(listing, self._root, size, resize_filter)
        return load_or_build(place, shape, rows, self._quiet, stored)

    def hashes(self, samples: Sequence[Sample]) -> list[str]:
        """The content hash of each image, see :func:`vbench.data.decode.content_hash`.

        An image that was used before, or is as it was when the cache was told its hash, is not opened.
        Raises as :meth:`load`.
        """
        if any(sample.path not in self._used for sample in samples) and self.known(samples) is None:
            list(self._rows(samples, lambda path: (None, content_hash(open_rgb(path))), [], "hashing images"))
            self._keep()
        return [self._used[sample.path] for sample in samples]

    def known(self, samples: Sequence[Sample]) -> list[str] | None:
        """The content hashes, if they are known without opening an image; None if one of them is not."""
        found = self._vouched(samples)
        if found is None and self._file is not None and not self._fresh:
            # Another process may have told since.
            self._entries = {**self._entries, **self._read(self._file)}
            found = self._vouched(samples)
        if found is not None:
            for sample, one in zip(samples, found, strict=True):
                self._use(sample.path, one)
        return found

    def _vouched(self, samples: Sequence[Sample]) -> list[str] | None:
        found = []
        for sample in samples:
            entry = self._entries.get(sample.path)
            try:
                if entry is None or stamp_of(f"{self._root}/{sample.path}") != entry[0]:
                    return None
            except (OSError, ValueError):
                return None
            found.append(entry[1])
        return found

    def _use(self, path: str, found: str) -> None:
        if self._used.setdefault(path, found) != found:
            raise VbenchError(
                f"{self._root / path} was changed while it was in use; give the same command again when "
                "nothing writes to the data set"
            )

    def _rows(
        self,
        samples: Sequence[Sample],
        work: Callable[[Path], tuple[T, str]],
        hashes: list[str],
        label: str,
    ) -> Iterator[T]:
        """What ``work`` makes of each file, in order; the hashes it returns beside go to ``hashes``.

        Goes on to the end after a broken file, to name all of them.
        """

        def attempt(sample: Sample) -> tuple[T, str, Stamp | None] | Unreadable:
            try:
                return self._attempt(self._root / sample.path, work)
            except Unreadable as error:
                return error

        broken: list[str] = []
        with whole_files_only(), ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            portions = range(0, len(samples), _PORTION)
            outcomes = (
                outcome
                for start in portions
                for outcome in pool.map(attempt, samples[start : start + _PORTION])
            )
            for sample, outcome in zip(
                samples, track(outcomes, label, total=len(samples), quiet=self._quiet), strict=True
            ):
                if isinstance(outcome, Unreadable):
                    broken.append(f"{sample.path} ({outcome})")
                    continue
                row, found, stamp = outcome
                self._use(sample.path, found)
                hashes.append(found)
                if stamp is not None:
                    self._entries[sample.path] = self._unsaved[sample.path] = (stamp, found)
                if not broken:
                    yield row
        if broken:
            more = ", ..." if len(broken) > _SHOWN else ""
            raise BadInput(
                f"{len(broken)} of {len(samples)} images under {self._root} cannot be used: "
                f"{', '.join(broken[:_SHOWN])}{more}; `vbench data verify` lists them all"
            )

    @staticmethod
    def _attempt(path: Path, work: Callable[[Path], tuple[T, str]]) -> tuple[T, str, Stamp | None]:
        try:
            before = settled_stamp(str(path))
        except (OSError, ValueError):
            # The work says better what is wrong.
            before = None
        started = time.time_ns()
        made, found = work(path)
        if before is None or stamp_of(str(path)) != before:
            raise Unreadable("changed while it was read")
        return made, found, before if vouches(before, started) else None

    def _read(self, file: HashFile) -> dict[str, tuple[Stamp, str]]:
        try:
            return file.read()
        except OSError as error:
            raise VbenchError(f"cannot use the image cache {file.path}: {refused(error)}") from error

    def _keep(self) -> None:
        """Tell the cache what was learnt since it was told last."""
        if self._file is None or not self._unsaved:
            return
        try:
            self._file.path.parent.mkdir(parents=True, exist_ok=True)
            with lock_of(self._file.path):
                self._file.add(self._unsaved)
            self._unsaved.clear()
        except OSError as error:
            raise VbenchError(f"cannot use the image cache {self._file.path}: {refused(error)}") from error
