"""The images of a data set as one compact array, decoded once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vbench.data.arrays import cache_name, load_or_build
from vbench.data.base import Sample
from vbench.data.decode import Unreadable, check_size, decode
from vbench.errors import BadInput
from vbench.progress import track

#: Decoded rows wait for the writer in portions, so that memory stays bounded for any number of images.
_PORTION = 256
_SHOWN = 5


def load_images(
    samples: Sequence[Sample],
    root: Path,
    size: tuple[int, int],
    resize_filter: str = "lanczos",
    cache_dir: Path | None = None,
    label: str = "decoding images",
    quiet: bool = False,
) -> np.ndarray:
    """Decode ``samples`` under ``root`` to N x H x W x 3 uint8 RGB; grey images get three equal channels.

    ``size`` is (H, W) in pixels; each image is resized once with ``resize_filter`` ("lanczos" or
    "bilinear"), not at all when it has that size already. With ``cache_dir`` the array is stored there, and
    what comes back is read-only and mapped from disk; a later call decodes nothing unless a file, the size
    or the filter changed. ``label`` heads the progress display.

    Raises :class:`BadInput` that counts the files that are missing or no images and names the first five.
    """
    root = Path(root)
    size = (size[0], size[1])
    check_size(size, resize_filter)
    shape = (len(samples), *size, 3)
    rows = _decoded(samples, root, size, resize_filter, label, quiet)
    if cache_dir is None or not samples:
        images = np.empty(shape, dtype=np.uint8)
        for index, row in enumerate(rows):
            images[index] = row
        return images
    name = cache_name(samples, root, size, resize_filter)
    return load_or_build(Path(cache_dir) / name, shape, rows, quiet)


def _decoded(
    samples: Sequence[Sample], root: Path, size: tuple[int, int], resize_filter: str, label: str, quiet: bool
) -> Iterator[np.ndarray]:
    """Rows in the order of ``samples``; goes on to the end after a broken file, to name all of them."""

    def attempt(sample: Sample) -> np.ndarray | Unreadable:
        try:
            return decode(root / sample.path, size, resize_filter)
        except Unreadable as error:
            return error

    broken: list[str] = []
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        portions = range(0, len(samples), _PORTION)
        outcomes = (
            outcome for start in portions for outcome in pool.map(attempt, samples[start : start + _PORTION])
        )
        for sample, outcome in zip(
            samples, track(outcomes, label, total=len(samples), quiet=quiet), strict=True
        ):
            if isinstance(outcome, Unreadable):
                broken.append(f"{sample.path} ({outcome})")
            elif not broken:
                yield outcome
    if broken:
        more = ", ..." if len(broken) > _SHOWN else ""
        raise BadInput(
            f"{len(broken)} of {len(samples)} images under {root} cannot be used: "
            f"{', '.join(broken[:_SHOWN])}{more}; `vbench data verify` lists them all"
        )
