"""SYSU-MM01: reader, known counts, published permutations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.data.base import Dataset, DatasetReader, Sample, layout_dataset
from vbench.data.lists import (
    Camera,
    Shots,
    absence_notes,
    draw_galleries,
    index_galleries,
    missing_images,
    read_folders,
    read_ids,
    stray_note,
)
from vbench.data.protocols import DRAWS, Protocol, all_protocols, parse_protocol

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


_NOT_STANDARD = (
    "visible-to-infrared on SYSU-MM01 is not a standard protocol: it is this project's, with the cam2/cam3 "
    "removal mirrored"
)


@dataclass(frozen=True)
class Identities:
    """Identity numbers of the split; ``train`` holds the training and the validation ids."""

    train: tuple[int, ...]
    test: tuple[int, ...]


def read_identities(root: Path) -> Identities:
    """Read the split under ``root/exp``; :class:`BadInput` if an id is in two of its three files."""
    names = ("exp/train_id.txt", "exp/val_id.txt", "exp/test_id.txt")
    train, val, test = (read_ids(root, name) for name in names)
    owner: dict[int, str] = {}
    for name, ids in zip(names, (train, val, test), strict=True):
        for pid in ids:
            if pid in owner:
                raise BadInput(f"{root / name}, line 1: identity {pid} is also in {owner[pid]}")
            owner[pid] = name
    return Identities(tuple(sorted((*train, *val))), tuple(sorted(test)))


class SYSU(DatasetReader):
    """SYSU-MM01: six cameras, two of them infrared."""

    name, version, paper = (
        "sysu",
        1,
        "Wu et al., RGB-Infrared Cross-Modality Person Re-Identification, ICCV 2017",
    )
    summary = "SYSU-MM01: six cameras, two of them infrared"
    protocols = tuple(all_protocols("sysu"))
    expected = (
        "cam1 ... cam6 with folders of 4-digit ids, and exp/train_id.txt, exp/val_id.txt, exp/test_id.txt"
    )
    #: Wu et al. 2017 and the statistics that the AGW evaluation script prints.
    published: ClassVar[dict[str, int]] = {
        "training identities": 395,
        "test identities": 96,
        "training images, visible": 22258,
        "training images, infrared": 11909,
        "queries, all-search": 3803,
        "gallery, all-search single-shot": 301,
    }

    def read(self, root: Path, protocol: str) -> Dataset:
        """Read SYSU-MM01 under one of its protocols.

        ir2vis: every infrared test image (cameras 3, 6) is a query; the gallery holds, for each test id and
        visible camera of the mode (all 1, 2, 4, 5; indoor 1, 2), one or ten images. vis2ir swaps the roles.
        Raises :class:`BadInput` for a broken split file, or when no query or no gallery image is left.
        """
        parsed = parse_protocol(protocol)
        ids = read_identities(root)
        train = read_folders(root, ids.train, CAMERAS)
        queried = _cameras(parsed, query=True)
        searched = _cameras(parsed, query=False)
        query = read_folders(root, ids.test, queried)
        candidates = read_folders(root, ids.test, searched)
        for side, shots, cameras in (("query", query, queried), ("gallery", candidates, searched)):
            if not shots.groups:
                folders = ", ".join(camera.folder for camera in cameras)
                where = f"no test identity has images in {folders}"
                raise BadInput(f"{root}: {missing_images(side, where, shots.strays)}")
        galleries, notes = _galleries(root, parsed, ids, candidates, searched)
        gallery, trials = index_galleries(galleries, candidates.samples, len(query.samples))
        empty = [trial.name for trial in trials if not len(trial.gallery)]
        if empty:
            raise BadInput(f"{root}: the gallery of {empty[0]} is empty; {FILE} fits other images")
        notes += absence_notes("training", ids.train, CAMERAS, train.samples)
        notes += absence_notes("test", ids.test, queried, query.samples)
        notes += absence_notes("test", ids.test, searched, candidates.samples)
        notes += stray_note([*train.strays, *query.strays, *candidates.strays])
        trained = {modality: _of(modality, train.samples) for modality in Modality}
        if not parsed.standard:
            notes.insert(0, _NOT_STANDARD)
        return layout_dataset("sysu", root, protocol, trained, (query.samples, gallery, trials), notes)


def _galleries(
    root: Path, protocol: Protocol, ids: Identities, candidates: Shots, cameras: tuple[Camera, ...]
) -> tuple[dict[str, list[Sample]], list[str]]:
    if protocol.galleries == "seed10":
        return draw_galleries(candidates.groups, protocol.shots_per_camera), []
    numbers = [camera.number for camera in cameras]
    return read_galleries(root, ids.test, numbers, protocol.shots_per_camera, candidates.samples)


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


FILE = "exp/rand_perm_cam.mat"


def read_galleries(
    root: Path, pids: Sequence[int], cameras: Sequence[int], shots: int, samples: Sequence[Sample]
) -> tuple[dict[str, list[Sample]], list[str]]:
    """Galleries "randperm-1" ... "randperm-10", ordered by camera, then identity; and notes.

    The file holds the cell array ``rand_perm_cam{camera}{identity}``: 10 rows (trials) of permuted image
    numbers, which start at 1 and equal the number in the image's file name. The first ``shots`` of a row are
    in the gallery. Numbers without an image on disk are left out, as in the published Python evaluation, and
    noted. Raises :class:`BadInput` if the file is missing or laid out differently.
    """
    path = root / FILE
    cells = _load_cells(path)
    by_number = _by_number(samples, path)
    galleries: dict[str, list[Sample]] = {}
    absent: list[str] = []
    for trial in range(DRAWS):
        chosen = []
        for cam in cameras:
            for pid in sorted(pids):
                for number in _row(cells, cam, pid, trial, path)[:shots]:
                    sample = by_number.get((cam, pid, number))
                    if sample is None:
                        absent.append(f"cam{cam}/{pid:04d}/{number:04d}")
                    else:
                        chosen.append(sample)
        galleries[f"randperm-{trial + 1}"] = chosen
    return galleries, _absence_note(absent)


def _load_cells(path: Path) -> np.ndarray:
    from scipy.io import loadmat

    if not path.is_file():
        raise BadInput(f"{path} is missing; get it from the data set's owner or use the same id with seed10")
    try:
        content = loadmat(str(path), variable_names=["rand_perm_cam"])
    except Exception as error:  # loadmat documents no closed set of errors for a damaged file
        raise BadInput(f"{path} cannot be read as a MATLAB file: {error}") from None
    cells = content.get("rand_perm_cam")
    if cells is None or cells.dtype != object or cells.size < 6:
        raise BadInput(f"{path}: expected a cell array 'rand_perm_cam' with 6 cameras")
    return cells.ravel()


def _row(cells: np.ndarray, cam: int, pid: int, trial: int, path: Path) -> list[int]:
    identities = np.asarray(cells[cam - 1]).ravel()
    if identities.dtype != object or not 1 <= pid <= identities.size:
        raise BadInput(f"{path}: no entry for identity {pid} in camera {cam}")
    table = np.asarray(identities[pid - 1])
    if table.size == 0:
        return []
    if table.ndim != 2 or table.shape[0] != DRAWS or not np.issubdtype(table.dtype, np.number):
        raise BadInput(f"{path}: camera {cam}, identity {pid}: expected {DRAWS} rows of image numbers")
    row = [int(number) for number in table[trial]]
    if min(row) < 1 or len(set(row)) != len(row):
        raise BadInput(f"{path}: camera {cam}, identity {pid}: a row must permute image numbers from 1 on")
    return row


def _by_number(samples: Sequence[Sample], path: Path) -> dict[tuple[int, int, int], Sample]:
    found: dict[tuple[int, int, int], Sample] = {}
    for sample in samples:
        number = _number(sample)
        if number is not None and found.setdefault((sample.cam, sample.pid, number), sample) != sample:
            other = found[sample.cam, sample.pid, number]
            raise BadInput(f"{path} goes by numbers, and {other.path} and {sample.path} have the same one")
    return found


def _number(sample: Sample) -> int | None:
    stem = Path(sample.path).stem
    return int(stem) if stem.isascii() and stem.isdigit() else None


def _absence_note(absent: list[str]) -> list[str]:
    names = sorted(set(absent))
    if not names:
        return []
    return [f"{FILE} names {len(names)} images that are not on disk, left out, the first {names[0]}"]
