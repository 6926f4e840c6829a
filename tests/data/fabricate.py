"""Tiny copies of the three sets in their owners' layouts, with the gaps that the real ones have."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
from PIL import Image

VISIBLE = (1, 2, 4, 5)
INFRARED = (3, 6)


def jpeg(seed: int = 0, size: tuple[int, int] = (12, 6)) -> bytes:
    """Bytes of a small colour JPEG, H x W."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def write(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def sysu(root: Path) -> Path:
    """Six test ids in no order; 12 misses cam2 and cam5, 300 has no infrared image, 41 none at all."""
    picture, counts = jpeg(), random.Random(5)
    write(root / "exp/train_id.txt", "2,7,1")
    write(root / "exp/val_id.txt", "5\n")
    write(root / "exp/test_id.txt", "110,12,6,300,41,33\n")
    absent = {(12, 2), (12, 5), (300, 3), (300, 6), (1, 6), (33, 4)} | {(41, cam) for cam in range(1, 7)}
    for pid in (1, 2, 5, 7, 6, 12, 33, 41, 110, 300):
        for cam in range(1, 7):
            if (pid, cam) not in absent:
                for number in range(1, counts.choice((1, 3, 8, 12, 14)) + 1):
                    write(root / f"cam{cam}/{pid:04d}/{number:04d}.jpg", picture)
    return root


def regdb(root: Path, trials: int = 10) -> Path:
    """Four people a split and modality with three images; labels 0 .. 3 in training and in test."""
    picture = jpeg()
    for trial in range(1, trials + 1):
        people = list(range(1, 9))
        random.Random(trial).shuffle(people)
        for split, chosen in (("train", people[:4]), ("test", people[4:])):
            for word, folder, letter in (("visible", "Visible", "v"), ("thermal", "Thermal", "t")):
                lines = []
                for label, person in enumerate(sorted(chosen)):
                    for number in range(3):
                        path = f"{folder}/{person}/male_front_{letter}_{number:05d}_{person}.bmp"
                        write(root / path, picture)
                        lines.append(f"{path} {label}")
                write(root / f"idx/{split}_{word}_{trial}.txt", "\n".join(lines) + "\n")
    return root


def llcm(root: Path) -> Path:
    """Three test ids; infrared images also under a cam3 that the set does not have."""
    picture, counts = jpeg(), random.Random(8)
    for word in ("vis", "nir"):
        lines = []
        for label in range(3):
            for number in range(2):
                path = f"{word}/{label + 900:04d}/{label + 900:04d}_c01_f{number}_{word}.jpg"
                write(root / path, picture)
                lines.append(f"{path} {label}")
        write(root / f"idx/train_{word}.txt", "\n".join(lines))
        for pid in (2, 10, 345):
            for cam in range(1, 10):
                for number in range(counts.choice((0, 1, 4))):
                    write(
                        root / f"test_{word}/cam{cam}/{pid:04d}/{pid:04d}_c{cam:02d}_f{number}.jpg", picture
                    )
    write(root / "test_nir/cam3/0002/extra.jpg", picture)
    write(root / "idx/test_id.txt", "345,2,10")
    return root
