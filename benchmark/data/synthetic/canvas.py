"""Paint anti-aliased shapes on a batch of images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Canvas:
    """A batch of images, or a horizontal strip of them.

    ``pixels`` is B x C x h x W, float32 in [0, 1]; ``x`` and ``y`` are the pixels' scene coordinates. The
    whole scene is 1 high and 0.5 wide with x = 0 in the middle, for any number of pixels. ``pixel`` is the
    size of one pixel in scene units.
    """

    pixels: np.ndarray
    x: np.ndarray
    y: np.ndarray
    pixel: float

    @classmethod
    def blank(cls, batch: int, channels: int, size: tuple[int, int]) -> Canvas:
        """A black canvas of ``size`` (H, W)."""
        height, width = size
        return cls(
            pixels=np.zeros((batch, channels, height, width), dtype=np.float32),
            x=(((np.arange(width) + 0.5) / width - 0.5) * 0.5).astype(np.float32).reshape(1, 1, -1),
            y=((np.arange(height) + 0.5) / height).astype(np.float32).reshape(1, -1, 1),
            pixel=max(1.0 / height, 0.5 / width),
        )

    def rows(self, top: np.ndarray, bottom: np.ndarray) -> Canvas:
        """The strip from the smallest ``top`` to the largest ``bottom`` of the batch; shares the pixels."""
        height = self.y.shape[1]
        first = float(self.y[0, 0, 0]) - 0.5 / height
        step = float(self.y[0, -1, 0] - self.y[0, 0, 0]) / max(height - 1, 1)
        low = int(np.clip((np.min(top) - first) / step - 2, 0, height - 1))
        high = int(np.clip((np.max(bottom) - first) / step + 3, low + 1, height))
        return Canvas(self.pixels[:, :, low:high], self.x, self.y[:, low:high], self.pixel)

    def paint(self, alpha: np.ndarray, colour: np.ndarray, shade: np.ndarray | None = None) -> None:
        """Blend in ``colour`` (B x C, or B x C x h x W) with opacity ``alpha`` (B x h x W, in [0, 1]).

        ``shade`` (B x h x W) multiplies the colour, for instance to darken the edges of a limb.
        """
        if colour.ndim == 2:
            colour = colour[:, :, None, None]
        if shade is not None:
            colour = colour * shade[:, None]
        self.pixels[...] += alpha[:, None] * (colour - self.pixels)


def spread(values: np.ndarray | float) -> np.ndarray:
    """Reshape one value per image to broadcast over its pixels: B -> B x 1 x 1."""
    return np.asarray(values, dtype=np.float32).reshape(-1, 1, 1)


def coverage(distance: np.ndarray, pixel: float) -> np.ndarray:
    """Share of a pixel inside a shape, 0 .. 1, from its signed distance: a linear ramp one pixel wide."""
    return np.clip(0.5 - distance * np.float32(1.0 / pixel), 0.0, 1.0)


def line(distance: np.ndarray, width: np.ndarray | float, pixel: float) -> np.ndarray:
    """Coverage of a line of ``width`` around distance 0; a line thinner than a pixel is drawn fainter."""
    width = spread(width)
    half = np.maximum(width, np.float32(pixel)) * np.float32(0.5)
    return coverage(np.abs(distance) - half, pixel) * np.minimum(width / np.float32(pixel), 1.0)


def segment(x: np.ndarray, y: np.ndarray, start: tuple, end: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Unsigned distance to the segment ``start`` - ``end``, and where along it the nearest point is (0 .. 1).

    Subtracting a radius, which may vary along the segment, gives the signed distance to a limb.
    """
    sx, sy = spread(start[0]), spread(start[1])
    bx, by = spread(end[0]) - sx, spread(end[1]) - sy
    px, py = x - sx, y - sy
    inverse = np.float32(1.0) / np.maximum(bx * bx + by * by, np.float32(1e-8))
    along = np.clip(px * (bx * inverse) + py * (by * inverse), 0.0, 1.0)
    dx, dy = px - along * bx, py - along * by
    return np.sqrt(dx * dx + dy * dy), along


def ellipse(x: np.ndarray, y: np.ndarray, centre: tuple, radii: tuple) -> np.ndarray:
    """Signed distance to an axis-aligned ellipse, exact to first order near the outline."""
    rx, ry = spread(radii[0]), spread(radii[1])
    u, v = (x - spread(centre[0])) / rx, (y - spread(centre[1])) / ry
    level = np.sqrt(u * u + v * v)
    slope = np.sqrt((u / rx) ** 2 + (v / ry) ** 2)
    return (level - 1.0) * level / np.maximum(slope, np.float32(1e-6))


def rounded_box(x: np.ndarray, y: np.ndarray, centre: tuple, half: tuple, corner: np.ndarray) -> np.ndarray:
    """Signed distance to an axis-aligned box of half sizes ``half`` with corner radius ``corner``."""
    radius = spread(corner)
    qx = np.abs(x - spread(centre[0])) - spread(half[0]) + radius
    qy = np.abs(y - spread(centre[1])) - spread(half[1]) + radius
    outside = np.sqrt(np.maximum(qx, 0.0) ** 2 + np.maximum(qy, 0.0) ** 2)
    return outside + np.minimum(np.maximum(qx, qy), 0.0) - radius
