"""Signed distances of the primitives that people are made of, vectorised over a batch.

Grids ``x`` (1 x 1 x W) and ``y`` (1 x h x 1) are in scene units (the image is 1 high and 0.5 wide). Shape
parameters are arrays of length B, one a picture. Every function returns B x h x W, negative inside.
"""

from __future__ import annotations

import numpy as np


def spread(values: np.ndarray | float) -> np.ndarray:
    """Give one value a picture the axes of a batch of pictures: B -> B x 1 x 1."""
    return np.asarray(values, dtype=np.float32).reshape(-1, 1, 1)


def coverage(distance: np.ndarray, pixel: float) -> np.ndarray:
    """Share of a pixel inside the shape, 0 .. 1: a linear ramp one pixel wide around the outline."""
    return np.clip(0.5 - distance * np.float32(1.0 / pixel), 0.0, 1.0)


def line(distance: np.ndarray, width: np.ndarray | float, pixel: float) -> np.ndarray:
    """Coverage of a line of ``width`` around distance 0; where thinner than a pixel, it fades instead."""
    width = spread(width)
    half = np.maximum(width, np.float32(pixel)) * np.float32(0.5)
    return coverage(np.abs(distance) - half, pixel) * np.minimum(width / np.float32(pixel), 1.0)


def segment(x: np.ndarray, y: np.ndarray, start: tuple, end: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Unsigned distance to the segment ``start`` - ``end``, and where along it the nearest point is (0 .. 1).

    Less a radius, which may change along the way, it is a limb.
    """
    sx, sy = spread(start[0]), spread(start[1])
    bx, by = spread(end[0]) - sx, spread(end[1]) - sy
    px, py = x - sx, y - sy
    inverse = np.float32(1.0) / np.maximum(bx * bx + by * by, np.float32(1e-8))
    along = np.clip(px * (bx * inverse) + py * (by * inverse), 0.0, 1.0)
    dx, dy = px - along * bx, py - along * by
    return np.sqrt(dx * dx + dy * dy), along


def ellipse(x: np.ndarray, y: np.ndarray, centre: tuple, radii: tuple) -> np.ndarray:
    """An axis-aligned ellipse; the distance is exact to first order near the outline."""
    rx, ry = spread(radii[0]), spread(radii[1])
    u, v = (x - spread(centre[0])) / rx, (y - spread(centre[1])) / ry
    level = np.sqrt(u * u + v * v)
    slope = np.sqrt((u / rx) ** 2 + (v / ry) ** 2)
    return (level - 1.0) * level / np.maximum(slope, np.float32(1e-6))


def rounded_box(x: np.ndarray, y: np.ndarray, centre: tuple, half: tuple, corner: np.ndarray) -> np.ndarray:
    """An axis-aligned box of half sizes ``half`` with corner radius ``corner``."""
    radius = spread(corner)
    qx = np.abs(x - spread(centre[0])) - spread(half[0]) + radius
    qy = np.abs(y - spread(centre[1])) - spread(half[1]) + radius
    outside = np.sqrt(np.maximum(qx, 0.0) ** 2 + np.maximum(qy, 0.0) ** 2)
    return outside + np.minimum(np.maximum(qx, qy), 0.0) - radius
