"""The released evaluation scripts' choice of query and gallery images, step by step and slow: the oracle.

Paths are plain strings; the module-level generator is seeded as those scripts do and put back afterwards.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np


def _four_digit_ids(path: Path) -> list[str]:
    return sorted(f"{int(number):04d}" for number in path.read_text().split("\n")[0].split(","))


def _images(root: Path, ids: str, cameras: list[str]) -> Iterator[list[str]]:
    for pid in _four_digit_ids(root / ids):
        for camera in cameras:
            folder = root / camera / pid
            if folder.is_dir():
                yield [f"{camera}/{pid}/{name}" for name in sorted(p.name for p in folder.iterdir())]


def query_paths(root: Path, ids: str, cameras: list[str]) -> list[str]:
    return [name for names in _images(root, ids, cameras) for name in names]


def gallery_paths(root: Path, ids: str, cameras: list[str], trial: int) -> list[str]:
    seeded = random.Random(trial)
    return [seeded.choice(names) for names in _images(root, ids, cameras)]


def multi_shot_paths(root: Path, ids: str, cameras: list[str], trial: int, shots: int) -> list[str]:
    seeded, found = random.Random(trial), []
    for names in _images(root, ids, cameras):
        found += seeded.sample(names, shots if shots < len(names) else len(names))
    return found


def permuted_paths(
    table: np.ndarray, ids: list[int], cameras: list[int], trial: int, shots: int
) -> list[str]:
    """``table[cam - 1][id - 1]`` is a 10 x images matrix of image numbers from 1 on, or empty."""
    found = []
    for cam in cameras:
        for pid in sorted(ids):
            matrix = table[cam - 1][pid - 1]
            if matrix.size:
                found += [f"cam{cam}/{pid:04d}/{number:04d}.jpg" for number in matrix[trial][:shots]]
    return found
