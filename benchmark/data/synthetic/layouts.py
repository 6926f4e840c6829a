"""Which pictures each dataset's folder holds, where they lie, and the lists beside them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from vbench.data.synthetic.draws import Stream, generator
from vbench.data.synthetic.render import Shot
from vbench.types import Modality

#: Trials (galleries, or splits) that every one of the three sets defines.
TRIALS = 10

SYSU_VISIBLE_CAMS = (1, 2, 4, 5)
SYSU_INFRARED_CAMS = (3, 6)
LLCM_VISIBLE_CAMS = (1, 2, 3, 4, 5, 6, 7, 8, 9)
LLCM_INFRARED_CAMS = (1, 2, 4, 5, 6, 7, 8, 9)

#: Test pictures per person and camera: several, so that drawing one for the gallery matters.
_TEST_SHOTS = 3
_REGDB_SHOTS = 10


@dataclass(frozen=True)
class Plan:
    """``pictures`` maps relative paths to shots, ``files`` relative paths to the contents of lists."""

    pictures: dict[str, Shot]
    files: dict[str, bytes]


def sysu(ids: int, test_ids: int, seed: int) -> Plan:
    """SYSU-MM01: ``cam1..cam6/<id>/<n>.jpg`` and ``exp/``; one training identity in five validates."""
    train = range(1, ids + 1)
    validation = [pid for pid in train if pid % 5 == 0] or [ids]
    test = range(ids + 1, ids + test_ids + 1)
    pictures = {}
    for pid in (*train, *test):
        unseen = pid > ids
        for cams, modality, shots in (
            (SYSU_VISIBLE_CAMS, Modality.VISIBLE, _TEST_SHOTS if unseen else 1),
            (SYSU_INFRARED_CAMS, Modality.INFRARED, _TEST_SHOTS if unseen else 2),
        ):
            for cam in cams:
                for number in range(1, shots + 1):
                    pictures[f"cam{cam}/{pid:04d}/{number:04d}.jpg"] = Shot(pid, cam, modality, number)
    files = {
        "exp/train_id.txt": _id_line(pid for pid in train if pid not in validation),
        "exp/val_id.txt": _id_line(validation),
        "exp/test_id.txt": _id_line(test),
        "exp/rand_perm_cam.mat": _permutations(pictures.values(), ids + test_ids, seed),
    }
    return Plan(pictures, files)


def regdb(ids: int, test_ids: int, seed: int) -> Plan:
    """RegDB: ten splits of one population into ``ids`` training and ``test_ids`` test identities."""
    people = range(1, ids + test_ids + 1)
    folders = {
        Modality.VISIBLE: ("Visible", "visible", "v", 1),
        Modality.INFRARED: ("Thermal", "thermal", "t", 2),
    }
    pictures, files = {}, {}
    paths: dict[tuple[str, int], list[str]] = {}
    for modality, (folder, word, letter, cam) in folders.items():
        for pid in people:
            for number in range(1, _REGDB_SHOTS + 1):
                path = f"{folder}/{pid}/person_front_{letter}_{number:05d}_{pid}.bmp"
                pictures[path] = Shot(pid, cam, modality, number)
                paths.setdefault((word, pid), []).append(path)
    for trial in range(1, TRIALS + 1):
        order = generator(seed, Stream.SPLIT, trial).permutation(np.array(people))
        for part, chosen in (("train", sorted(order[:ids])), ("test", sorted(order[ids:]))):
            for _, word, _, _ in folders.values():
                lines = (
                    f"{path} {label}" for label, pid in enumerate(chosen) for path in paths[word, int(pid)]
                )
                files[f"idx/{part}_{word}_{trial}.txt"] = _lines(lines)
    return Plan(pictures, files)


def llcm(ids: int, test_ids: int, seed: int) -> Plan:
    """LLCM: nine cameras by day, eight of them (not the third) by night; a few of them see each identity."""
    pictures: dict[str, Shot] = {}
    lists: dict[str, list[str]] = {"vis": [], "nir": []}
    for pid in range(1, ids + test_ids + 1):
        unseen = pid > ids
        chance = generator(seed, Stream.SPLIT, pid)
        for word, cams, modality in (
            ("vis", LLCM_VISIBLE_CAMS, Modality.VISIBLE),
            ("nir", LLCM_INFRARED_CAMS, Modality.INFRARED),
        ):
            for cam in sorted(
                int(cam) for cam in chance.choice(cams, size=3 if unseen else 2, replace=False)
            ):
                for number in range(1, (_TEST_SHOTS if unseen else 2) + 1):
                    name = f"{pid:04d}/{pid:04d}_c{cam:02d}_s{number:06d}_f{number:04d}_{word}.jpg"
                    path = f"test_{word}/cam{cam}/{name}" if unseen else f"{word}/{name}"
                    pictures[path] = Shot(pid, cam, modality, number)
                    if not unseen:
                        lists[word].append(f"{path} {pid - 1}")
    files = {f"idx/train_{word}.txt": _lines(lines) for word, lines in lists.items()}
    files["idx/test_id.txt"] = _id_line(range(ids + 1, ids + test_ids + 1))
    return Plan(pictures, files)


LAYOUTS: dict[str, Callable[[int, int, int], Plan]] = {"sysu": sysu, "regdb": regdb, "llcm": llcm}


def _id_line(pids: Iterable[int]) -> bytes:
    return (",".join(str(pid) for pid in pids) + "\n").encode()


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _permutations(shots: Iterable[Shot], people: int, seed: int) -> bytes:
    """``rand_perm_cam.mat``: per camera and identity one row a trial, a permutation of the picture numbers.

    ``rand_perm_cam`` is a 6 x 1 cell of (people x 1) cells of (trials x pictures) matrices, empty where the
    camera never saw the identity.
    """
    from scipy.io import savemat

    counts: dict[tuple[int, int], int] = {}
    for shot in shots:
        counts[shot.cam, shot.pid] = max(counts.get((shot.cam, shot.pid), 0), shot.number)
    by_camera = np.empty((6, 1), dtype=object)
    for cam in range(1, 7):
        cells = np.empty((people, 1), dtype=object)
        for pid in range(1, people + 1):
            chance = generator(seed, Stream.GALLERY, cam, pid)
            count = counts.get((cam, pid), 0)
            rows = [chance.permutation(count) + 1 for _ in range(TRIALS)] if count else []
            cells[pid - 1, 0] = np.array(rows, dtype=np.uint16).reshape(len(rows), count)
        by_camera[cam - 1, 0] = cells
    buffer = io.BytesIO()
    savemat(buffer, {"rand_perm_cam": by_camera})
    # The first 116 bytes are free text, into which SciPy writes the date.
    return b"MATLAB 5.0 MAT-file".ljust(116) + buffer.getvalue()[116:]
