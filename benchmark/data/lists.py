"""Read list files and identity folders; sample galleries."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from vbench.core.errors import BadInput, shortened
from vbench.core.types import Modality
from vbench.data.base import Sample, Trial
from vbench.data.protocols import DRAWS


def draw_galleries(groups: Sequence[Sequence[Sample]], shots: int) -> dict[str, list[Sample]]:
    """Sample ``shots`` images of each group for trials "seed-0" ... "seed-9".

    Trial t uses Python's generator seeded with t, one call per group in the order given. One shot:
    ``choice`` over the group, the random numbers of ``random.seed(t)`` in AGW's evaluation code and its
    successors. More shots: ``sample`` without replacement, all images (in sampled order) of a group that has
    fewer. No released script seeds multi-shot sampling reproducibly, so that rule is this project's.
    """
    galleries = {}
    for trial in range(DRAWS):
        generator = random.Random(trial)
        chosen: list[Sample] = []
        for group in groups:
            if shots == 1:
                chosen.append(generator.choice(group))
            else:
                chosen.extend(generator.sample(group, min(shots, len(group))))
        galleries[f"seed-{trial}"] = chosen
    return galleries


def index_galleries(
    galleries: dict[str, list[Sample]], order: Iterable[Sample], queries: int
) -> tuple[tuple[Sample, ...], tuple[Trial, ...]]:
    """The union of sampled galleries, each image once, in the given ``order``; and trials indexing into it.

    ``queries`` is the number of query images; every trial ranks all of them.
    """
    sampled = {sample for chosen in galleries.values() for sample in chosen}
    union = tuple(sample for sample in order if sample in sampled)
    position = {sample: index for index, sample in enumerate(union)}
    all_queries = np.arange(queries)
    trials = tuple(
        Trial(name, all_queries, np.array([position[sample] for sample in chosen], dtype=np.int64))
        for name, chosen in galleries.items()
    )
    return union, trials


#: Longest identity number in digits; longer ones may not fit in 64 bits.
MOST_DIGITS = 18


class Names:
    """Finds files and folders below ``root``, ignoring case; each folder is listed once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, relative: str) -> str | None:
        """The relative path on disk that equals ``relative`` except for case; None if there is none.

        Raises :class:`BadInput` for two names that differ only in case, and a folder that cannot be listed.
        """
        found = ""
        for part in relative.split("/"):
            names = self._in(found).get(part.lower(), [])
            if len(names) > 1:
                raise two_cases(self._root / found, *names[:2])
            if not names:
                return None
            found = f"{found}/{names[0]}" if found else names[0]
        return found

    def _in(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._listed:
            listed: dict[str, list[str]] = {}
            for entry in entries(self._root / folder):
                listed.setdefault(entry.name.lower(), []).append(entry.name)
            self._listed[folder] = listed
        return self._listed[folder]


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder by name, empty if there is none; :class:`BadInput` if it cannot be listed."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise BadInput(f"{folder} cannot be listed: {error.strerror or error}") from None


def two_cases(folder: Path, one: str, other: str) -> BadInput:
    """The error for two names in a folder that differ only in case."""
    names = f"'{shortened(one)}' and '{shortened(other)}'"
    return BadInput(
        f"{folder}: {names} differ in upper and lower case alone; remove the one that is not the data set's"
    )


def is_text(name: str) -> bool:
    """Whether a file name is valid UTF-8, as records need."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})

#: Other image formats, which are refused: skipping such files silently would change the data set.
OTHER_IMAGES = frozenset(
    {".tif", ".tiff", ".webp", ".gif", ".jfif", ".jpe", ".jp2", ".ppm", ".pgm", ".heic", ".avif"}
)


@dataclass(frozen=True)
class Camera:
    """One camera: ``folder`` relative to the root, its ``number`` and ``modality``."""

    folder: str
    number: int
    modality: Modality


@dataclass
class Shots:
    """The files in the folders of some identities and cameras.

    ``groups``: samples of each (identity, camera) that has any, identities ascending, then cameras in the
    order given, then file names ascending. ``strays``: other files, relative to the root.
    """

    groups: list[list[Sample]] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All samples, group after group."""
        return tuple(sample for group in self.groups for sample in group)


def read_folders(root: Path, pids: Iterable[int], cameras: Iterable[Camera]) -> Shots:
    """List ``<camera folder>/<id>/*`` for every identity and camera.

    Camera folders may be in upper case, and ids may have leading zeros. Absent or empty folders are normal:
    not every camera saw every identity. Raises :class:`BadInput` for a folder that cannot be listed, two
    names for the same identity or file, and images in a format not in :data:`IMAGE_SUFFIXES` or whose name
    is not UTF-8, since skipping them would change the data set.
    """
    shots, names = Shots(), Names(root)
    cameras = tuple(cameras)
    folders = {camera: _id_folders(root, names.find(camera.folder)) for camera in cameras}
    for pid in sorted(pids):
        for camera in cameras:
            found = folders[camera].get(pid, [])
            if len(found) > 1:
                raise BadInput(f"{root}: {found[0]} and {found[1]} are the same identity; merge them")
            group = [
                Sample(path, pid, camera.number, camera.modality)
                for folder in found
                for path in _image_paths(root, folder, shots.strays)
            ]
            if group:
                shots.groups.append(group)
    return shots


def missing_images(side: str, where: str, strays: list[str]) -> str:
    """The message for a ``side`` ("query" or "gallery") without any image."""
    others = f"; {len(strays)} other files are there, the first {strays[0]}" if strays else ""
    return f"no {side} image: {where}{others}"


def check_suffix(path: str, source: str) -> None:
    """Raise :class:`BadInput` for an image not in :data:`IMAGE_SUFFIXES`; ``source`` starts the message."""
    if Path(path).suffix.lower() not in IMAGE_SUFFIXES:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise BadInput(f"{source}: {shortened(path)} is none of {kinds}; convert such files to PNG")


def _id_folders(root: Path, camera: str | None) -> dict[int, list[str]]:
    """The folders of each identity in a camera's folder, relative to the root; more than one is an error."""
    found: dict[int, list[str]] = {}
    for entry in [] if camera is None else entries(root / camera):
        if entry.name.isascii() and entry.name.isdigit() and len(entry.name) <= MOST_DIGITS:
            found.setdefault(int(entry.name), []).append(f"{camera}/{entry.name}")
    return found


def _image_paths(root: Path, folder: str, strays: list[str]) -> list[str]:
    """Paths of the images in a folder; other files are appended to ``strays``, escaped for printing."""
    found: dict[str, str] = {}
    for entry in entries(root / folder):
        path = f"{folder}/{entry.name}"
        suffix = Path(entry.name).suffix.lower()
        if entry.name.startswith(".") or suffix not in IMAGE_SUFFIXES | OTHER_IMAGES or _is_folder(entry):
            strays.append(shortened(path))
            continue
        if not is_text(entry.name):
            raise BadInput(f"{root}: the name of {shortened(path)} is not UTF-8; rename it")
        check_suffix(path, str(root))
        other = found.setdefault(entry.name.lower(), entry.name)
        if other != entry.name:
            raise two_cases(root / folder, other, entry.name)
    return [f"{folder}/{name}" for name in sorted(found.values())]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def absence_notes(
    kind: str, pids: Iterable[int], cameras: Iterable[Camera], samples: Iterable[Sample]
) -> list[str]:
    """One line for every gap: cameras without any image, identities without images of a modality."""
    cameras = tuple(cameras)
    samples = tuple(samples)
    seen_cameras = {(sample.modality, sample.cam) for sample in samples}
    notes = [
        f"{camera.folder}: no images of {kind} identities"
        for camera in cameras
        if (camera.modality, camera.number) not in seen_cameras
    ]
    for modality in Modality:
        if not any(camera.modality is modality for camera in cameras):
            continue
        present = {sample.pid for sample in samples if sample.modality is modality}
        absent = [str(pid) for pid in sorted(set(pids) - present)]
        if absent:
            more = ", ..." if len(absent) > 5 else ""
            listed = ", ".join(absent[:5]) + more
            notes.append(f"{len(absent)} {kind} identities without {modality.value} images: {listed}")
    return notes


def stray_note(strays: list[str]) -> list[str]:
    """At most one line about files that were skipped because they are not images."""
    if not strays:
        return []
    return [f"passed over {len(strays)} files that are no images, the first {strays[0]}"]


_ID = re.compile(rf"[0-9]{{1,{MOST_DIGITS}}}")

_WHOLE = f"a whole number from 0 on, of at most {MOST_DIGITS} digits"


@dataclass(frozen=True)
class Line:
    """Line ``number`` (from 1) of a list: ``path`` relative to the set's root, ``label`` a class number."""

    path: str
    label: int
    number: int


def read_ids(root: Path, name: str) -> list[int]:
    """Read ``root/name``, one line of comma-separated identity numbers, in the order written.

    Raises :class:`BadInput`, naming file and line, for a missing file, an entry that is not a number, an id
    given twice, no id at all, and text after the first line.
    """
    path = _on_disk(root, name)
    lines = _read_lines(path)
    for number, line in enumerate(lines[1:], start=2):
        if line.strip():
            raise BadInput(f"{path}, line {number}: expected one line of comma-separated ids, found another")
    entries = [entry.strip() for entry in lines[0].split(",")] if lines[0].strip() else []
    seen: set[int] = set()
    for entry in entries:
        if not _ID.fullmatch(entry):
            found = f"{path}, line 1: {shortened(entry)!r} is no identity number"
            raise BadInput(f"{found}, {_WHOLE}; write ids like 6,10,17")
        if int(entry) in seen:
            raise BadInput(f"{path}, line 1: identity {int(entry)} is listed twice")
        seen.add(int(entry))
    if not seen:
        raise BadInput(f"{path}, line 1: no identity listed")
    return [int(entry) for entry in entries]


def read_list(root: Path, name: str) -> list[Line]:
    """Read ``root/name``, lines of "relative/path label", in the order written.

    Paths may have backslashes and differ from those on disk in case. Raises :class:`BadInput`, naming file
    and line, for a missing file, a line without a whole-number label or with more columns, a path that is
    absolute or leaves the root, an image format that is not supported, a path given twice, and no line at
    all.
    """
    path = _on_disk(root, name)
    found: list[Line] = []
    first_seen: dict[str, int] = {}
    names = Names(root)
    for number, text in enumerate(_read_lines(path), start=1):
        if not text.strip():
            continue
        where = f"{path}, line {number}"
        written, label = _columns(text.strip(), where)
        image = _inside(written, where)
        check_suffix(image, where)
        if not (root / image).exists():
            image = names.find(image) or image
        if image in first_seen:
            raise BadInput(f"{where}: {image} is listed already in line {first_seen[image]}")
        first_seen[image] = number
        found.append(Line(image, label, number))
    if not found:
        raise BadInput(f"{path}: no image listed")
    return found


def _columns(text: str, where: str) -> tuple[str, int]:
    """Path and label of a line; a path may hold spaces."""
    parts = text.rsplit(maxsplit=1)
    if len(parts) != 2 or not _ID.fullmatch(parts[1]):
        raise BadInput(
            f"{where}: expected 'relative/path label', the label {_WHOLE}, found {shortened(text)!r}"
        )
    *before, last = parts[0].split()
    if not _is_image(last) and any(map(_is_image, before)):
        columns = len(text.split())
        raise BadInput(
            f"{where}: expected two columns, 'relative/path label', found {columns}; remove the others"
        )
    return parts[0], int(parts[1])


def _is_image(text: str) -> bool:
    return PurePosixPath(text).suffix.lower() in IMAGE_SUFFIXES


def refuse_shared_images(root: Path, lists: dict[str, list[Line]]) -> None:
    """Raise :class:`BadInput`, naming file and line, if two of a set's lists (by name) share an image."""
    owner: dict[str, str] = {}
    for name, lines in lists.items():
        for line in lines:
            if line.path in owner:
                where = f"{root / name}, line {line.number}"
                raise BadInput(f"{where}: {line.path} is also in {owner[line.path]}; no image may be in both")
        owner.update((line.path, name) for line in lines)


def _inside(text: str, where: str) -> str:
    image = PurePosixPath(text.replace("\\", "/"))
    drive = ":" in (image.parts or ("",))[0]
    if image.is_absolute() or drive or ".." in image.parts or "\0" in text or not image.parts:
        raise BadInput(f"{where}: {shortened(text)!r} must be a path inside the data set's folder")
    return str(image)


def _on_disk(root: Path, name: str) -> Path:
    path = root / name
    return path if path.exists() else root / (Names(root).find(name) or name)


def _read_lines(path: Path) -> list[str]:
    """The lines of a text file, with line ends of any system."""
    try:
        # Not splitlines(), which also splits at other characters, and names may hold those.
        return path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise BadInput(f"{path} is missing; it comes with the data set") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not a text file (UTF-8); save it as one") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from None


#: RegDB and LLCM number their training classes from 0 on, independently of the test identities. Without this
#: shift two different identities would have the same pid. The order of pids, hence training labels, is kept.
TRAIN_PID_OFFSET = 10_000


def first_training_pid(tested: Iterable[int]) -> int:
    """The pid of training class 0: :data:`TRAIN_PID_OFFSET`, or more if test pids reach it."""
    return max(TRAIN_PID_OFFSET, 1 + max(tested, default=0))


def training_samples(lines: Iterable[Line], cam: int, modality: Modality, first: int) -> tuple[Sample, ...]:
    """Samples of a training list, pid = class number + ``first``."""
    return tuple(Sample(line.path, line.label + first, cam, modality) for line in lines)


def one_sided_note(kind: str, visible: Iterable[Sample], infrared: Iterable[Sample]) -> list[str]:
    """At most one line about identities seen in one modality only."""
    odd = {sample.pid for sample in visible} ^ {sample.pid for sample in infrared}
    return [f"{len(odd)} {kind} identities have images in one modality only"] if odd else []
