"""Images under camera and identity folders, as SYSU-MM01 and LLCM keep them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vbench.data.base import Sample
from vbench.errors import BadInput
from vbench.types import Modality

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})


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
    """List ``<camera folder>/<4-digit id>/*`` for every identity and camera.

    A folder that is absent or empty is normal: not everybody passed every camera. :class:`BadInput` when
    a folder exists and cannot be listed.
    """
    shots = Shots()
    cameras = tuple(cameras)
    for pid in sorted(pids):
        for camera in cameras:
            relative = f"{camera.folder}/{pid:04d}"
            group = []
            for name in _file_names(root / relative):
                if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                    group.append(Sample(f"{relative}/{name}", pid, camera.number, camera.modality))
                else:
                    shots.strays.append(f"{relative}/{name}")
            if group:
                shots.groups.append(group)
    return shots


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


def _file_names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if not entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise BadInput(f"{folder} cannot be listed: {error.strerror or error}") from None
