"""What hashing the images of a set as large as SYSU-MM01 costs: run as a script; takes minutes and 6 GB.

Decoding is measured in one run with and without hashes, portion by portion in turn, so that other work on the
machine meets both; then as a user meets it, with everything that goes to the cache, and a second time.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from vbench.core.types import Modality
from vbench.data.base import Sample
from vbench.data.images import FILTERS, Images, decode, open_rgb

FILES = 45_863
SIZE = (288, 144)
MOST_MORE, MOST_SECONDS = 0.05, 2.0
_SEVERAL = 64
_PORTION = 1024


def pictures() -> list[bytes]:
    """JPEG files of about 300 x 100 pixels with the detail and the noise of a camera's."""
    generator, found = np.random.default_rng(0), []
    for _ in range(_SEVERAL):
        height, width = generator.integers((270, 90), (331, 111))
        coarse = generator.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
        noisy = smooth + generator.normal(0, 5, (height, width, 3))
        buffer = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=95)
        found.append(buffer.getvalue())
    return found


def write(root: Path, files: int) -> list[Sample]:
    """The set: many files of few pictures, read again for each file."""
    contents = pictures()
    samples = []
    for number in range(files):
        path = root / f"{number % 500:04d}" / f"{number:05d}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(contents[number % _SEVERAL])
        samples.append(Sample(path.relative_to(root).as_posix(), number % 500, 1, Modality.VISIBLE))
    mean = sum(map(len, contents)) / _SEVERAL
    print(f"{files} JPEG files of about 300 x 100, {mean / 1000:.1f} kB each")
    return samples


def without(path: Path) -> np.ndarray:
    """What decoding is without a hash."""
    return np.asarray(open_rgb(path).resize(SIZE[::-1], FILTERS["lanczos"]))


def compare(root: Path, samples: list[Sample]) -> None:
    """Print seconds and processor seconds of decoding with and without hashes."""
    ways: dict[str, Callable[[Path], object]] = {
        "decode": without,
        "decode and hash": lambda path: decode(path, SIZE, "lanczos"),
    }
    wall, used = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for turn, start in enumerate(range(0, len(samples), _PORTION)):
            paths = [root / sample.path for sample in samples[start : start + _PORTION]]
            for name in ways if turn % 2 else reversed(ways):
                began, cpu = time.perf_counter(), time.process_time()
                for _ in pool.map(ways[name], paths):
                    pass
                wall[name] += time.perf_counter() - began
                used[name] += time.process_time() - cpu
    for name in ways:
        print(f"{name:44s} {wall[name]:7.1f} s   {used[name]:7.1f} processor s")
    plain, hashed = used.values()
    verdict = "" if hashed / plain - 1 <= MOST_MORE else f"   ABOVE {MOST_MORE:.0%}"
    print(f"{'hashing costs, of processor time':44s} {hashed / plain - 1:7.1%}{verdict}")


def main(files: int = FILES) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder) / "data", Path(folder) / "cache"
        root.mkdir()
        samples = write(root, files)
        compare(root, samples)
        start = time.perf_counter()
        Images(root, cache, quiet=True).load(samples, SIZE)
        print(f"{'first time, with all that goes to the cache':44s} {time.perf_counter() - start:7.1f} s")
        start = time.perf_counter()
        found = Images(root, cache, quiet=True).known(samples)
        took = time.perf_counter() - start
        assert found is not None and len(found) == files
        verdict = "" if took < MOST_SECONDS else f"   ABOVE {MOST_SECONDS} s"
        print(f"{'second look: is every file as it was?':44s} {took:7.2f} s{verdict}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
