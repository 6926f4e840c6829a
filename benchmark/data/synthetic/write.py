"""Writing a synthetic dataset to disk: all of it, or nothing that looks like it."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from vbench.data.synthetic.latent import draw_people
from vbench.data.synthetic.layouts import LAYOUTS, Plan
from vbench.data.synthetic.render import Shot, render
from vbench.errors import BadInput, VbenchError, refused, unknown_name
from vbench.progress import track
from vbench.seeds import check_seed
from vbench.types import Modality

#: Written last: a folder that holds it is complete.
MANIFEST = "vbench-synthetic.json"

#: Raised whenever the same parameters give other bytes than before.
GENERATOR_VERSION = 1

_JPEG_QUALITY = 95
_SMALLEST_SIDE = 8
_LARGEST_SIDE = 2048
_MOST_PEOPLE = 9999

#: Pixels painted at a time; bounds the memory, never the result.
_CHUNK_PIXELS = 64 * 64 * 32


def write_dataset(
    layout: str,
    out: Path,
    ids: int,
    seed: int,
    size: tuple[int, int],
    test_ids: int | None = None,
    quiet: bool = False,
) -> Path:
    """Write a synthetic dataset in the folder layout of ``layout`` ("sysu", "regdb" or "llcm") to ``out``.

    ``ids`` training identities (at least 2), ``test_ids`` others to test on (48 unless told), pictures of
    ``size`` (H, W) pixels. The same arguments give the same bytes. A complete set with the same parameters is
    left alone. The folder appears at once, when everything in it is written. Returns ``out``.

    Raises :class:`~vbench.errors.BadInput` for an unknown layout, numbers out of range, or a folder
    that holds anything else; :class:`~vbench.errors.VbenchError` when the disk refuses.
    """
    out = Path(out)
    test_ids = 48 if test_ids is None else test_ids
    seed = check_seed(seed)
    _check(layout, ids, test_ids, size)
    manifest = {
        "generator": GENERATOR_VERSION,
        "layout": layout,
        "ids": ids,
        "test_ids": test_ids,
        "seed": seed,
        "size": list(size),
    }
    try:
        if _already_there(out, manifest):
            return out
        target = out.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            _fill(work, LAYOUTS[layout](ids, test_ids, seed), seed, size, quiet)
            (work / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
            _publish(work, target, manifest)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise VbenchError(f"cannot write synthetic data to {out}: {refused(error)}") from error
    return out


def _check(layout: str, ids: int, test_ids: int, size: tuple[int, int]) -> None:
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    if ids < 2:
        raise BadInput(f"synthetic data needs at least 2 training identities, got {ids}")
    if test_ids < 1:
        raise BadInput(f"synthetic data needs at least 1 test identity, got {test_ids}")
    if ids + test_ids > _MOST_PEOPLE:
        raise BadInput(
            f"{ids} + {test_ids} identities do not fit 4-digit names; at most {_MOST_PEOPLE} in all"
        )
    if len(size) != 2 or not all(_SMALLEST_SIDE <= side <= _LARGEST_SIDE for side in size):
        wanted = f"height and width of {_SMALLEST_SIDE} to {_LARGEST_SIDE} pixels"
        raise BadInput(f"size must be {wanted}, got {'x'.join(str(side) for side in size)}")


def _already_there(out: Path, manifest: dict[str, object]) -> bool:
    """True if ``out`` is this very set; refuse it if it holds anything else."""
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
    # A folder made by mkdtemp is its owner's alone; a dataset is as open as any folder made here.
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
    for path, picture in track(pictures, "synthetic people", total=len(plan.pictures), quiet=quiet):
        (root / path).write_bytes(encode(picture, Path(path).suffix))


def _take(pictures: dict[str, Shot], seed: int, size: tuple[int, int]) -> Iterator[tuple[str, np.ndarray]]:
    chunk = max(1, _CHUNK_PIXELS // (size[0] * size[1]))
    for modality in Modality:
        wanted = [(path, shot) for path, shot in pictures.items() if shot.modality is modality]
        for start in range(0, len(wanted), chunk):
            paths, shots = zip(*wanted[start : start + chunk], strict=True)
            pids = sorted({shot.pid for shot in shots})
            who = np.searchsorted(pids, [shot.pid for shot in shots])
            yield from zip(paths, render(draw_people(seed, pids).rows(who), shots, seed, size), strict=True)


def encode(picture: np.ndarray, suffix: str) -> bytes:
    """The bytes of an image file for an H x W x 3 uint8 picture: ``.jpg`` at high quality, or ``.bmp``."""
    buffer = io.BytesIO()
    image = Image.fromarray(picture)
    if suffix == ".bmp":
        image.save(buffer, "BMP")
    else:
        image.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()
