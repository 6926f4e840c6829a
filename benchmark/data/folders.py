"""Images under camera and identity folders, as SYSU-MM01 and LLCM keep them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vbench.data.base import Sample
from vbench.data.disk_names import MOST_DIGITS, Names, entries, is_text, two_cases
from vbench.errors import BadInput, shortened
from vbench.types import Modality

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})

#: Images too, but in formats that no set is shipped in: passing over them would hide that they are there.
OTHER_IMAGES = frozenset(
    {".tif", ".tiff", ".webp", ".gif", ".jfif", ".jpe", ".jp2", ".ppm", ".pgm", ".heic", ".avif"}
)


@dataclass(frozen=True)
class Camera:
    """One camera: ``folder`` relative to the root, its ``number``, what it sees."""

    folder: str
    number: int
    modality: Modality


@dataclass
class Shots:
    """What lies in the folders of some identities and cameras.

    ``groups``: samples of each (identity, camera) that has any, identities ascending, then cameras in the
    order asked for, then file names ascending. ``strays``: files that are no images, relative to the root.
    """

    groups: list[list[Sample]] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All samples, group after group."""
        return tuple(sample for group in self.groups for sample in group)


def read_folders(root: Path, pids: Iterable[int], cameras: Iterable[Camera]) -> Shots:
    """List ``<camera folder>/<id>/*`` for every identity and camera.

    Camera folders may be in upper case, and ids have any number of leading zeros. A folder that is absent or
    empty is normal: not everybody passed every camera. :class:`BadInput` when a folder exists and cannot be
    listed, for two names of which only one can be meant, and for images that are in no format of
    :data:`IMAGE_SUFFIXES` or whose name is not UTF-8: leaving them out would be another set.
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
    """Why there is not one image for the queries or the gallery, ``side``."""
    others = f"; {len(strays)} other files are there, the first {strays[0]}" if strays else ""
    return f"no {side} image: {where}{others}"


def check_suffix(path: str, source: str) -> None:
    """Refuse an image in a format that data sets are not read from; ``source`` says where it is named."""
    if Path(path).suffix.lower() not in IMAGE_SUFFIXES:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise BadInput(f"{source}: {shortened(path)} is none of {kinds}; convert it and its like to PNG")


def _id_folders(root: Path, camera: str | None) -> dict[int, list[str]]:
    """The folders of each identity under a camera's, relative to the root: one, if all is well."""
    found: dict[int, list[str]] = {}
    for entry in [] if camera is None else entries(root / camera):
        if entry.name.isascii() and entry.name.isdigit() and len(entry.name) <= MOST_DIGITS:
            found.setdefault(int(entry.name), []).append(f"{camera}/{entry.name}")
    return found


def _image_paths(root: Path, folder: str, strays: list[str]) -> list[str]:
    """Paths of the images in a folder; everything else goes to ``strays``, in letters that can be printed."""
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
    """At most one line about files that were passed over because they are no images."""
    if not strays:
        return []
    return [f"passed over {len(strays)} files that are no images, the first {strays[0]}"]
