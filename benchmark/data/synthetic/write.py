"""Write a synthetic data set to disk in one of the layouts."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vbench.core.errors import BadInput, VbenchError, refused, unknown_name
from vbench.core.files import check_writable
from vbench.core.progress import track
from vbench.core.seeds import check_seed
from vbench.core.types import Modality
from vbench.data.synthetic.people import Stream, draw_people, generator
from vbench.data.synthetic.render import Shot, render

#: Number of trials (galleries or splits) in each of the three layouts.
TRIALS = 10

SYSU_VISIBLE_CAMS = (1, 2, 4, 5)

SYSU_INFRARED_CAMS = (3, 6)

LLCM_VISIBLE_CAMS = (1, 2, 3, 4, 5, 6, 7, 8, 9)

LLCM_INFRARED_CAMS = (1, 2, 4, 5, 6, 7, 8, 9)


@dataclass(frozen=True)
class Shots:
    """Images of an identity from each of its cameras: of one seen in training, and of one of the test.

    None is each layout's own number. Several test images, so that sampling one for the gallery matters.
    """

    train: int | None = None
    test: int | None = None


@dataclass(frozen=True)
class Plan:
    """A set to write. ``pictures``: relative path -> shot; ``files``: relative path -> content of a list."""

    pictures: dict[str, Shot]
    files: dict[str, bytes]


def sysu(ids: int, test_ids: int, seed: int, shots: Shots) -> Plan:
    """SYSU-MM01: ``cam1..cam6/<id>/<n>.jpg`` and ``exp/``; every fifth training identity validates."""
    train = range(1, ids + 1)
    validation = [pid for pid in train if pid % 5 == 0] or [ids]
    test = range(ids + 1, ids + test_ids + 1)
    pictures = {}
    for pid in (*train, *test):
        unseen = pid > ids
        for cams, modality, few in (
            (SYSU_VISIBLE_CAMS, Modality.VISIBLE, 1),
            (SYSU_INFRARED_CAMS, Modality.INFRARED, 2),
        ):
            count = (shots.test or 3) if unseen else (shots.train or few)
            for cam in cams:
                for number in range(1, count + 1):
                    pictures[f"cam{cam}/{pid:04d}/{number:04d}.jpg"] = Shot(pid, cam, modality, number)
    files = {
        "exp/train_id.txt": _id_line(pid for pid in train if pid not in validation),
        "exp/val_id.txt": _id_line(validation),
        "exp/test_id.txt": _id_line(test),
        "exp/rand_perm_cam.mat": _permutations(pictures.values(), ids + test_ids, seed),
    }
    return Plan(pictures, files)


def regdb(ids: int, test_ids: int, seed: int, shots: Shots) -> Plan:
    """RegDB: ten splits of the same identities into ``ids`` for training and ``test_ids`` for testing."""
    pids = range(1, ids + test_ids + 1)
    folders = {
        Modality.VISIBLE: ("Visible", "visible", "v", 1),
        Modality.INFRARED: ("Thermal", "thermal", "t", 2),
    }
    pictures, files = {}, {}
    paths: dict[tuple[str, int], list[str]] = {}
    for modality, (folder, word, letter, cam) in folders.items():
        for pid in pids:
            for number in range(1, (shots.train or 10) + 1):
                path = f"{folder}/{pid}/person_front_{letter}_{number:05d}_{pid}.bmp"
                pictures[path] = Shot(pid, cam, modality, number)
                paths.setdefault((word, pid), []).append(path)
    for trial in range(1, TRIALS + 1):
        order = generator(seed, Stream.SPLIT, trial).permutation(np.array(pids))
        for part, chosen in (("train", sorted(order[:ids])), ("test", sorted(order[ids:]))):
            for _, word, _, _ in folders.values():
                lines = (
                    f"{path} {label}" for label, pid in enumerate(chosen) for path in paths[word, int(pid)]
                )
                files[f"idx/{part}_{word}_{trial}.txt"] = _lines(lines)
    return Plan(pictures, files)


def llcm(ids: int, test_ids: int, seed: int, shots: Shots) -> Plan:
    """LLCM: nine visible cameras, eight infrared ones (not camera 3); each identity is seen by a few."""
    pictures: dict[str, Shot] = {}
    lists: dict[str, list[str]] = {"vis": [], "nir": []}
    for pid in range(1, ids + test_ids + 1):
        unseen = pid > ids
        random = generator(seed, Stream.SPLIT, pid)
        for word, cams, modality in (
            ("vis", LLCM_VISIBLE_CAMS, Modality.VISIBLE),
            ("nir", LLCM_INFRARED_CAMS, Modality.INFRARED),
        ):
            for cam in sorted(
                int(cam) for cam in random.choice(cams, size=3 if unseen else 2, replace=False)
            ):
                for number in range(1, ((shots.test or 3) if unseen else (shots.train or 2)) + 1):
                    name = f"{pid:04d}/{pid:04d}_c{cam:02d}_s{number:06d}_f{number:04d}_{word}.jpg"
                    path = f"test_{word}/cam{cam}/{name}" if unseen else f"{word}/{name}"
                    pictures[path] = Shot(pid, cam, modality, number)
                    if not unseen:
                        lists[word].append(f"{path} {pid - 1}")
    files = {f"idx/train_{word}.txt": _lines(lines) for word, lines in lists.items()}
    files["idx/test_id.txt"] = _id_line(range(ids + 1, ids + test_ids + 1))
    return Plan(pictures, files)


LAYOUTS: dict[str, Callable[[int, int, int, Shots], Plan]] = {"sysu": sysu, "regdb": regdb, "llcm": llcm}


def _id_line(pids: Iterable[int]) -> bytes:
    return (",".join(str(pid) for pid in pids) + "\n").encode()


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _permutations(shots: Iterable[Shot], ids: int, seed: int) -> bytes:
    """``rand_perm_cam.mat``: per camera, identity and trial a permutation of the image numbers.

    ``rand_perm_cam`` is a 6 x 1 cell of (ids x 1) cells of (trials x images) matrices, empty if the camera
    never saw the identity.
    """
    from scipy.io import savemat

    counts: dict[tuple[int, int], int] = {}
    for shot in shots:
        counts[shot.cam, shot.pid] = max(counts.get((shot.cam, shot.pid), 0), shot.number)
    by_camera = np.empty((6, 1), dtype=object)
    for cam in range(1, 7):
        cells = np.empty((ids, 1), dtype=object)
        for pid in range(1, ids + 1):
            random = generator(seed, Stream.GALLERY, cam, pid)
            count = counts.get((cam, pid), 0)
            rows = [random.permutation(count) + 1 for _ in range(TRIALS)] if count else []
            cells[pid - 1, 0] = np.array(rows, dtype=np.uint16).reshape(len(rows), count)
        by_camera[cam - 1, 0] = cells
    buffer = io.BytesIO()
    savemat(buffer, {"rand_perm_cam": by_camera})
    # The first 116 bytes are free text, where SciPy writes the date.
    return b"MATLAB 5.0 MAT-file".ljust(116) + buffer.getvalue()[116:]


#: Written last: a folder that has it is complete.
MANIFEST = "vbench-synthetic.json"

#: Raise it when the same parameters give different bytes than before.
GENERATOR_VERSION = 1

_JPEG_QUALITY = 95

_SMALLEST_SIDE = 8

_LARGEST_SIDE = 2048

_MOST_IDENTITIES = _MOST_SHOTS = 9999

#: Pixels rendered at a time; bounds memory, does not affect the result.
_CHUNK_PIXELS = 64 * 64 * 32


def write_dataset(
    layout: str,
    out: Path,
    ids: int,
    seed: int,
    size: tuple[int, int],
    test_ids: int | None = None,
    quiet: bool = False,
    shots: Shots = Shots(),
) -> Path:
    """Write a synthetic dataset in the folder layout of ``layout`` ("sysu", "regdb" or "llcm") to ``out``.

    ``ids`` training identities (at least 2), ``test_ids`` others for testing (default 48), images of ``size``
    (H, W) pixels. The same arguments give the same bytes. A complete set with the same parameters is not
    written again. The folder is created atomically, once everything in it is written. Returns ``out``.

    Raises :class:`~vbench.core.errors.BadInput` for an unknown layout, numbers out of range, a folder with
    other content or one that cannot be made; :class:`~vbench.core.errors.VbenchError` if writing fails.
    """
    out = Path(out)
    test_ids = 48 if test_ids is None else test_ids
    seed = check_seed(seed)
    _check(layout, ids, test_ids, size, shots)
    manifest = {
        "generator": GENERATOR_VERSION,
        "layout": layout,
        "ids": ids,
        "test_ids": test_ids,
        "seed": seed,
        "size": list(size),
        **{f"{part}_shots": count for part, count in vars(shots).items() if count is not None},
    }
    try:
        if _already_there(out, manifest):
            return out
        target = out.resolve()
        check_writable(target.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            _fill(work, LAYOUTS[layout](ids, test_ids, seed, shots), seed, size, quiet)
            (work / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
            _publish(work, target, manifest)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise VbenchError(f"cannot write synthetic data to {out}: {refused(error)}") from error
    return out


def _check(layout: str, ids: int, test_ids: int, size: tuple[int, int], shots: Shots) -> None:
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    if ids < 2:
        raise BadInput(f"synthetic data needs at least 2 training identities, got {ids}")
    if test_ids < 1:
        raise BadInput(f"synthetic data needs at least 1 test identity, got {test_ids}")
    if ids + test_ids > _MOST_IDENTITIES:
        raise BadInput(
            f"{ids} + {test_ids} identities do not fit 4-digit names; at most {_MOST_IDENTITIES} in all"
        )
    if any(count is not None and not 1 <= count <= _MOST_SHOTS for count in vars(shots).values()):
        raise BadInput(f"images of an identity and camera must be 1 to {_MOST_SHOTS}")
    if layout == "regdb" and shots.test not in (None, shots.train):
        raise BadInput(
            "regdb's splits share all images: --test-shots can only be --train-shots, or be left out"
        )
    if len(size) != 2 or not all(_SMALLEST_SIDE <= side <= _LARGEST_SIDE for side in size):
        wanted = f"height and width of {_SMALLEST_SIDE} to {_LARGEST_SIDE} pixels"
        raise BadInput(f"size must be {wanted}, got {'x'.join(str(side) for side in size)}")


def _already_there(out: Path, manifest: dict[str, object]) -> bool:
    """True if ``out`` holds this set, False if it is missing or empty; :class:`BadInput` otherwise."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise BadInput(f"{out} is a file; give a folder for the synthetic data")
    if not any(out.iterdir()):
        return False
    try:
        found = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        raise BadInput(
            f"{out} holds something that is not a synthetic dataset; give a new or empty folder"
        ) from None
    if found == manifest:
        return True
    asked = ", ".join(
        f"{key} {found.get(key) if isinstance(found, dict) else None} instead of {value}"
        for key, value in manifest.items()
        if not isinstance(found, dict) or found.get(key) != value
    )
    raise BadInput(
        f"{out} holds another synthetic dataset ({asked or 'unknown fields'}); give another folder"
    )


def _publish(work: Path, out: Path, manifest: dict[str, object]) -> None:
    # mkdtemp makes a folder that only its owner can read; a dataset gets the parent's permissions.
    work.chmod(work.stat().st_mode | (out.parent.stat().st_mode & 0o055))
    try:
        if out.is_dir() and not any(out.iterdir()):
            out.rmdir()
        work.rename(out)
    except OSError:
        # Another run may have finished the same set first.
        if not _already_there(out, manifest):
            raise


def _fill(root: Path, plan: Plan, seed: int, size: tuple[int, int], quiet: bool) -> None:
    for folder in sorted({str(Path(path).parent) for path in (*plan.pictures, *plan.files)}):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for path, content in plan.files.items():
        (root / path).write_bytes(content)
    pictures = _take(plan.pictures, seed, size)
    for path, picture in track(pictures, "synthetic images", total=len(plan.pictures), quiet=quiet):
        (root / path).write_bytes(encode(picture, Path(path).suffix))


def _take(pictures: dict[str, Shot], seed: int, size: tuple[int, int]) -> Iterator[tuple[str, np.ndarray]]:
    chunk = max(1, _CHUNK_PIXELS // (size[0] * size[1]))
    for modality in Modality:
        wanted = [(path, shot) for path, shot in pictures.items() if shot.modality is modality]
        for start in range(0, len(wanted), chunk):
            paths, shots = zip(*wanted[start : start + chunk], strict=True)
            pids = sorted({shot.pid for shot in shots})
            row = np.searchsorted(pids, [shot.pid for shot in shots])
            yield from zip(paths, render(draw_people(seed, pids).rows(row), shots, seed, size), strict=True)


def encode(picture: np.ndarray, suffix: str) -> bytes:
    """Encode an H x W x 3 uint8 image as ``.bmp``, or as ``.jpg`` at high quality."""
    buffer = io.BytesIO()
    image = Image.fromarray(picture)
    if suffix == ".bmp":
        image.save(buffer, "BMP")
    else:
        image.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()
