"""Decode images once and cache them as one array."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import stat
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import PIL
from filelock import Timeout
from PIL import Image, ImageFile, features

from vbench.core.errors import BadInput, VbenchError, refused
from vbench.core.files import lock_of, write_atomically
from vbench.core.progress import say, track
from vbench.data.base import Dataset, Sample

FILTERS = {"lanczos": Image.Resampling.LANCZOS, "bilinear": Image.Resampling.BILINEAR}

#: The formats of the published data sets. No other is opened: Pillow runs external programs for some.
FORMATS = ("JPEG", "PNG", "BMP")

#: Recognised by their first bytes, so that the message can name the format.
_OTHER_FORMATS = ("TIFF", "GIF", "WEBP", "JPEG2000", "AVIF", "EPS", "PPM", "PSD", "ICO")

#: Modes with one possible conversion to RGB: grey becomes three equal channels, a palette its colours.
#: Others (CMYK, 16 bit, transparency) can be converted in several ways, so they are refused.
_MODES = ("RGB", "L", "P")

#: Images of persons are far smaller; a damaged header may claim gigabytes.
_MOST_PIXELS = 40_000_000

_ORIENTATION = 0x0112

#: EXIF orientations that rotate or mirror the image; 1 is upright, other numbers are undefined.
_TURNED = range(2, 9)


class Unreadable(Exception):
    """A file cannot be used as an image; the message says why in a few words."""


def decode(path: Path, size: tuple[int, int], resize_filter: str) -> tuple[np.ndarray, str]:
    """Decode ``path`` to H x W x 3 uint8, resized once to ``size`` = (H, W), and its :func:`content_hash`.

    The hash is that of the image before resizing. ``resize_filter`` is "lanczos" or "bilinear" (Pillow's,
    which widen their support when shrinking). Raises :class:`Unreadable`.
    """
    height, width = size
    image = open_rgb(path)
    return np.asarray(image.resize((width, height), FILTERS[resize_filter])), content_hash(image)


def content_hash(image: Image.Image) -> str:
    """SHA-256, as 64 hexadecimal digits, of an RGB image's size and pixels.

    Files that decode to the same pixels have the same hash, whatever their format and name.
    """
    digest = hashlib.sha256(b"%d x %d RGB\n" % image.size)
    digest.update(image.tobytes())
    return digest.hexdigest()


def open_rgb(path: Path) -> Image.Image:
    """Decode a whole file to an RGB image of its own size; raises :class:`Unreadable`.

    Pixel values are used as stored, as in published code of data sets and victims: colour profiles and gamma
    are not applied. Files that programs decode differently are refused: with an EXIF orientation (published
    code ignores it, viewers and OpenCV apply it), with transparent or 16-bit values, with several pictures.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise Unreadable("not a file")
        with Image.open(path, formats=FORMATS) as image:
            _refuse_other_readings(image)
            image.load()
            # In a PNG the tag may follow the pixels.
            _refuse_turned(image)
            return image if image.mode == "RGB" else image.convert("RGB")
    except FileNotFoundError:
        raise Unreadable("missing") from None
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        IndexError,
        TypeError,
        KeyError,
        struct.error,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise Unreadable(_reason(path, error)) from None


@contextmanager
def whole_files_only() -> Iterator[None]:
    """Refuse truncated files inside the block, even if other code made Pillow accept them."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def check_size(size: tuple[int, int], resize_filter: str) -> None:
    """Raise :class:`BadInput` for a size that is not two positive whole numbers, or an unknown filter."""
    if len(size) != 2 or any(not isinstance(side, int) or side < 1 for side in size):
        raise BadInput(f"image size must be (height, width) in whole pixels, got {size}")
    if resize_filter not in FILTERS:
        raise BadInput(f"unknown resize filter '{resize_filter}'; known: {', '.join(FILTERS)}")


def _refuse_other_readings(image: ImageFile.ImageFile) -> None:
    if image.mode not in _MODES:
        raise Unreadable(f"mode {image.mode}; save it as 8-bit RGB or grey-scale")
    # Pillow silently drops the lower eight bits of such values.
    if any("16" in str(tile[3]) for tile in image.tile if image.format == "PNG"):
        raise Unreadable("16 bits a channel; save it as 8-bit RGB or grey-scale")
    if "transparency" in image.info:
        raise Unreadable("transparent colours; save it as 8-bit RGB or grey-scale")
    pictures = getattr(image, "n_frames", 1)
    if pictures > 1:
        raise Unreadable(f"{pictures} pictures in one file; save the one that counts alone")
    if image.width * image.height > _MOST_PIXELS:
        raise Unreadable(f"{image.width} x {image.height} pixels, too large for a picture of a person")


def _refuse_turned(image: Image.Image) -> None:
    orientation = image.getexif().get(_ORIENTATION)
    if orientation in _TURNED:
        raise Unreadable(
            f"EXIF orientation {orientation}: some programs turn it, others do not; "
            "save the pixels as they should be seen, without the tag"
        )


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return _unidentified(path)
    if isinstance(error, OSError) and error.errno is not None:
        return (error.strerror or "cannot be opened").lower()
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _unidentified(path: Path) -> str:
    """Describe a file in none of :data:`FORMATS`, by its first bytes."""
    with path.open("rb") as file:
        start = file.read(16)
    if len(start) < 16:
        return "not an image" if start else "empty file"
    Image.init()
    for name in _OTHER_FORMATS:
        _, accepts = Image.OPEN.get(name, (None, None))
        if accepts is not None and accepts(start):
            return f"in {name} format; save it as JPEG, PNG or BMP"
    return "not an image"


#: Part of every cache file's name. Raise it when resizing changes.
_FORMAT = 2

#: A CRC-32 of the pixels follows the .npy content; np.load ignores it.
_CHECKSUM_BYTES = 4

_ROWS_AT_ONCE = 256


def array_name(hashes: Sequence[str], size: tuple[int, int], resize_filter: str) -> str:
    """Cache file name of images with these content hashes, in order, at one size; unique to the pixels."""
    return f"{_digest([_FORMAT, PIL.__version__, list(size), resize_filter, *hashes])}.npy"


def listing_name(paths: Sequence[str], root: Path, size: tuple[int, int], resize_filter: str) -> str:
    """Name of the lock for a list of images whose content hashes are not known yet."""
    return f"{_digest([str(root.resolve()), list(size), resize_filter, *paths])}.npy"


def _digest(key: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]


def load_or_build(
    path: Path,
    shape: tuple[int, ...],
    rows: Iterable[np.ndarray],
    quiet: bool,
    stored: Callable[[], Path | None] | None = None,
) -> np.ndarray:
    """Return the uint8 array stored at ``path``, read-only and memory-mapped; write ``rows`` to it if needed.

    ``rows`` (arrays of ``shape[1:]``, in order) is consumed only if there is no intact file. One process
    writes while others wait. If the file name depends on the rows, ``path`` names only the lock, and
    ``stored`` returns the file: called once the lock is held (None if not known yet), and after the rows.
    Raises :class:`VbenchError` if reading or writing fails, and whatever ``rows`` raises; no partial file is
    left.
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


def _write(
    part: Path, shape: tuple[int, ...], rows: Iterable[np.ndarray], where: Callable[[], Path | None]
) -> None:
    # The caller holds the lock, so the name can be fixed; a killed process's file is overwritten.
    checksum = 0
    try:
        part.unlink(missing_ok=True)
        with part.open("xb") as file:
            file.write(_header(shape))
            for row in rows:
                data = np.ascontiguousarray(row, dtype=np.uint8)
                file.write(data.data)
                checksum = zlib.crc32(data.data, checksum)
            file.write(checksum.to_bytes(_CHECKSUM_BYTES, "big"))
        place = where()
        assert place is not None, "known once the rows are decoded"
        part.replace(place)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


#: Images decoded before they are written, which bounds memory.
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
    """The images under one root, by relative path: their pixels and content hashes.

    ``cache`` is a folder for decoded images and hashes, None to store nothing; ``fresh`` ignores the hashes
    in it and decodes again. Raises :class:`VbenchError` if a file changes between two uses.
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
        "bilinear"), or not at all if it has that size. With a cache the array is stored there and returned
        read-only and memory-mapped; a later call decodes nothing unless a file, the size or the filter
        changed. ``label`` is the title of the progress display.

        Raises :class:`BadInput` with the number of missing or unusable files and the first five.
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
            # Called while the lock is held: a process waiting for it must find the new hashes.
            self._save_hashes()
            found = hashes or self.known(samples)
            return None if found is None else folder / array_name(found, size, resize_filter)

        place = stored()
        if place is None:
            listing = [sample.path for sample in samples]
            place = folder / listing_name(listing, self._root, size, resize_filter)
        return load_or_build(place, shape, rows, self._quiet, stored)

    def hashes(self, samples: Sequence[Sample]) -> list[str]:
        """The content hash of each image, see :func:`vbench.data.images.content_hash`.

        Images that were used before, or are unchanged since their hash was cached, are not opened. Raises as
        :meth:`load`.
        """
        if any(sample.path not in self._used for sample in samples) and self.known(samples) is None:
            list(self._rows(samples, lambda path: (None, content_hash(open_rgb(path))), [], "hashing images"))
            self._save_hashes()
        return [self._used[sample.path] for sample in samples]

    def known(self, samples: Sequence[Sample]) -> list[str] | None:
        """The content hashes, if all are known without opening an image; else None."""
        found = self._cached_hashes(samples)
        if found is None and self._file is not None and not self._fresh:
            # Another process may have stored them.
            self._entries = {**self._entries, **self._read(self._file)}
            found = self._cached_hashes(samples)
        if found is not None:
            for sample, one in zip(samples, found, strict=True):
                self._check_unchanged(sample.path, one)
        return found

    def _cached_hashes(self, samples: Sequence[Sample]) -> list[str] | None:
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

    def _check_unchanged(self, path: str, found: str) -> None:
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
        """Yield the first item that ``work`` returns for each file; append the second, a hash, to ``hashes``.

        After an unusable file the others are still read, to count all of them, and :class:`BadInput` follows.
        """

        def attempt(sample: Sample) -> tuple[T, str, Stamp | None] | Unreadable:
            try:
                return self._attempt(self._root / sample.path, work)
            except Unreadable as error:
                return error

        broken: list[str] = []
        with whole_files_only(), ThreadPoolExecutor(max_workers=min(32, os.cpu_count() or 1)) as pool:
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
                self._check_unchanged(sample.path, found)
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
            # ``work`` raises a better message.
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

    def _save_hashes(self) -> None:
        """Write new hashes to the cache."""
        if self._file is None or not self._unsaved:
            return
        try:
            self._file.path.parent.mkdir(parents=True, exist_ok=True)
            with lock_of(self._file.path):
                self._file.add(self._unsaved)
            self._unsaved.clear()
        except OSError as error:
            raise VbenchError(f"cannot use the image cache {self._file.path}: {refused(error)}") from error


#: Part of the cache file's name, as is the decoder's version. Raise it when decoding changes.
_HASH_FORMAT = 1

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
        decoder = [_HASH_FORMAT, PIL.__version__, features.version("jpg"), features.version("zlib")]
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


def data_card(
    dataset: Dataset,
    hashes: Callable[[Sequence[Sample]], Sequence[str]] | None = None,
    training: bool = False,
) -> dict[str, object]:
    """Names, protocol and hashes of the test data and, with ``training``, of the training data; JSON-able.

    "fingerprint" covers both test lists in order (each image's decoded pixels, identity, camera and
    modality), the ranking rule and the positions in all trials; "training" covers the training images
    likewise. The same pixels in another folder or file format give the same card. ``hashes`` returns the
    content hashes of images, by default :meth:`Images.hashes`; its exceptions pass through.
    """
    hashes = hashes or Images(dataset.root, quiet=True).hashes

    def listed(samples: Sequence[Sample]) -> list[object]:
        facts = zip(samples, hashes(samples), strict=True)
        return [[shown, sample.pid, sample.cam, sample.modality.value] for sample, shown in facts]

    trials = [
        [np.asarray(trial.query).tolist(), np.asarray(trial.gallery).tolist()] for trial in dataset.trials
    ]
    test = [dataset.metric, listed(dataset.query), listed(dataset.gallery), trials]
    reader = {"source": dataset.reader} if dataset.reader else {}
    card: dict[str, object] = {
        **reader,
        **({"queries": len(dataset.query)} if dataset.reduced else {}),
        "name": dataset.name,
        "protocol": dataset.protocol,
        "split": dataset.split,
        "synthetic": dataset.synthetic,
        "fingerprint": _digest(test)[:16],
    }
    if training:
        card["training"] = _digest([listed(dataset.train_visible), listed(dataset.train_infrared)])[:16]
    return card
