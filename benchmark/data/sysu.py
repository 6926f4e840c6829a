"""SYSU-MM01 in its owner's folder layout (Wu et al., ICCV 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vbench.data import randperm
from vbench.data.base import Dataset, Sample
from vbench.data.folders import Camera, Shots, absence_notes, missing_images, read_folders, stray_note
from vbench.data.galleries import draw_galleries, index_galleries
from vbench.data.listings import read_ids
from vbench.data.protocols import Protocol
from vbench.errors import BadInput
from vbench.types import Modality

CAMERAS = tuple(
    Camera(f"cam{number}", number, modality)
    for number, modality in (
        (1, Modality.VISIBLE),
        (2, Modality.VISIBLE),
        (4, Modality.VISIBLE),
        (5, Modality.VISIBLE),
        (3, Modality.INFRARED),
        (6, Modality.INFRARED),
    )
)
_INDOOR_VISIBLE = (1, 2)
EXPECTED = "cam1 ... cam6 with folders of 4-digit ids, and exp/train_id.txt, exp/val_id.txt, exp/test_id.txt"

_NOT_STANDARD = (
    "visible-to-infrared on SYSU-MM01 is not a standard protocol: it is this project's, with the cam2/cam3 "
    "removal mirrored"
)


@dataclass(frozen=True)
class Identities:
    """Identity numbers of the split: ``train`` holds the training and the validation ids."""

    train: tuple[int, ...]
    test: tuple[int, ...]


def read_identities(root: Path) -> Identities:
    """Read the split under ``root/exp``; :class:`BadInput` when an id is in two of its three files."""
    names = ("exp/train_id.txt", "exp/val_id.txt", "exp/test_id.txt")
    train, val, test = (read_ids(root, name) for name in names)
    owner: dict[int, str] = {}
    for name, ids in zip(names, (train, val, test), strict=True):
        for pid in ids:
            if pid in owner:
                raise BadInput(f"{root / name}, line 1: identity {pid} is also in {owner[pid]}")
            owner[pid] = name
    return Identities(tuple(sorted((*train, *val))), tuple(sorted(test)))


def read_sysu(root: Path, protocol: Protocol, synthetic: bool = False) -> Dataset:
    """Read SYSU-MM01 under one of its protocols.

    ir2vis: every infrared test image (cameras 3, 6) is a query; the gallery holds, for each test id and
    visible camera of the mode (all 1, 2, 4, 5; indoor 1, 2), one or ten images. vis2ir swaps the roles.
    Raises :class:`BadInput` for a broken split file, or when no query or no gallery image is left.
    """
    ids = read_identities(root)
    train = read_folders(root, ids.train, CAMERAS)
    queried = _cameras(protocol, query=True)
    searched = _cameras(protocol, query=False)
    query = read_folders(root, ids.test, queried)
    candidates = read_folders(root, ids.test, searched)
    for side, shots, cameras in (("query", query, queried), ("gallery", candidates, searched)):
        if not shots.groups:
            folders = ", ".join(camera.folder for camera in cameras)
            where = f"no test identity has images in {folders}"
            raise BadInput(f"{root}: {missing_images(side, where, shots.strays)}")
    galleries, notes = _galleries(root, protocol, ids, candidates, searched)
    gallery, trials = index_galleries(galleries, candidates.samples, len(query.samples))
    empty = [trial.name for trial in trials if not len(trial.gallery)]
    if empty:
        raise BadInput(f"{root}: the gallery of {empty[0]} is empty; {randperm.FILE} fits other images")
    notes += absence_notes("training", ids.train, CAMERAS, train.samples)
    notes += absence_notes("test", ids.test, queried, query.samples)
    notes += absence_notes("test", ids.test, searched, candidates.samples)
    notes += stray_note([*train.strays, *query.strays, *candidates.strays])
    return Dataset(
        name="sysu",
        root=root,
        protocol=str(protocol),
        metric="sysu",
        split="sysu",
        synthetic=synthetic,
        train_visible=_of(Modality.VISIBLE, train.samples),
        train_infrared=_of(Modality.INFRARED, train.samples),
        query=query.samples,
        gallery=gallery,
        trials=trials,
        notes=tuple(notes if protocol.standard else [_NOT_STANDARD, *notes]),
    )


def _galleries(
    root: Path, protocol: Protocol, ids: Identities, candidates: Shots, cameras: tuple[Camera, ...]
) -> tuple[dict[str, list[Sample]], list[str]]:
    if protocol.galleries == "seed10":
        return draw_galleries(candidates.groups, protocol.shots_per_camera), []
    numbers = [camera.number for camera in cameras]
    return randperm.read_galleries(root, ids.test, numbers, protocol.shots_per_camera, candidates.samples)


def _cameras(protocol: Protocol, query: bool) -> tuple[Camera, ...]:
    visible = query == (protocol.direction == "vis2ir")
    wanted = Modality.VISIBLE if visible else Modality.INFRARED
    return tuple(
        camera
        for camera in CAMERAS
        if camera.modality is wanted
        and (not visible or protocol.mode == "all" or camera.number in _INDOOR_VISIBLE)
    )


def _of(modality: Modality, samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
    return tuple(sample for sample in samples if sample.modality is modality)
