"""The fixed gallery draws that the owner of SYSU-MM01 published (``exp/rand_perm_cam.mat``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vbench.data.base import Sample
from vbench.data.protocols import DRAWS
from vbench.errors import BadInput

FILE = "exp/rand_perm_cam.mat"


def read_galleries(
    root: Path, pids: Sequence[int], cameras: Sequence[int], shots: int, samples: Sequence[Sample]
) -> tuple[dict[str, list[Sample]], list[str]]:
    """Galleries "randperm-1" ... "randperm-10", camera after camera and identities ascending, and notes.

    The file holds the cell array ``rand_perm_cam{camera}{identity}``, 10 rows (trials) of permuted image
    numbers that start at 1 and equal the number in the image's file name. The first ``shots`` of a row
    make the gallery. Numbers without an image on disk are left out and noted, as the published Python
    evaluation does. Raises :class:`BadInput` when the file is missing or laid out differently.
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
    people = np.asarray(cells[cam - 1]).ravel()
    if people.dtype != object or not 1 <= pid <= people.size:
        raise BadInput(f"{path}: no entry for identity {pid} in camera {cam}")
    table = np.asarray(people[pid - 1])
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
