"""A batch of pictures being painted, layer over layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Canvas:
    """``pixels`` is B x C x h x W, float32 in [0, 1]; ``x`` and ``y`` are the pixels' scene coordinates.

    The whole scene is 1 high and 0.5 wide with x = 0 in the middle, whatever the number of pixels.
    ``pixel`` is the size of one pixel in scene units.
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
        """The strip that holds all between ``top`` and ``bottom`` in any picture; shares the pixels."""
        height = self.y.shape[1]
        first = float(self.y[0, 0, 0]) - 0.5 / height
        step = float(self.y[0, -1, 0] - self.y[0, 0, 0]) / max(height - 1, 1)
        low = int(np.clip((np.min(top) - first) / step - 2, 0, height - 1))
        high = int(np.clip((np.max(bottom) - first) / step + 3, low + 1, height))
        return Canvas(self.pixels[:, :, low:high], self.x, self.y[:, low:high], self.pixel)

    def paint(self, alpha: np.ndarray, colour: np.ndarray, shade: np.ndarray | None = None) -> None:
        """Cover with ``colour`` (B x C, or B x C x h x W) where ``alpha`` (B x h x W) says so.

        ``shade`` (B x h x W) darkens the colour, as light falling off around a limb does.
        """
        if colour.ndim == 2:
            colour = colour[:, :, None, None]
        if shade is not None:
            colour = colour * shade[:, None]
        self.pixels[...] += alpha[:, None] * (colour - self.pixels)
