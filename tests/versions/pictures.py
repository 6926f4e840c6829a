"""A few made-up pictures in the layout of RegDB: the same bytes on every machine and at every commit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

IDENTITIES, EACH = {"train": 8, "test": 6}, 2
HEIGHT, WIDTH = 32, 16


def draw(root: Path) -> Path:
    """Write the pictures and the lists of trial 1 under ``root``; returns it."""
    draws = np.random.default_rng(0)
    for split, count in IDENTITIES.items():
        people = draws.integers(40, 216, (count, 4, 2, 3))
        for word in ("visible", "thermal"):
            lines = []
            for person in range(count):
                for number in range(EACH):
                    path = f"{split}/{word}/{person}_{number}.png"
                    blocks = people[person].repeat(HEIGHT // 4, 0).repeat(WIDTH // 2, 1)
                    pixels = blocks + draws.integers(-30, 31, (HEIGHT, WIDTH, 3))
                    if word == "thermal":
                        pixels = pixels.mean(2, keepdims=True).repeat(3, 2)
                    (root / path).parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / path)
                    lines.append(f"{path} {person}\n")
            (root / "idx").mkdir(exist_ok=True)
            (root / "idx" / f"{split}_{word}_1.txt").write_text("".join(lines))
    return root
