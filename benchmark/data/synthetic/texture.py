"""Garment patterns: how much of its second colour a garment shows at each point."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from vbench.data.synthetic.latent import Weave
from vbench.data.synthetic.shapes import spread


def second_colour(
    garment: SimpleNamespace, u: np.ndarray, v: np.ndarray, half: np.ndarray, pixel: float
) -> np.ndarray:
    """Share of the second colour, 0 .. 1, B x h x W.

    ``u`` and ``v`` are coordinates on the garment (right of its middle, below its top) in body heights,
    ``half`` its half width and ``pixel`` the size of a pixel there; edges are one pixel soft, and a pattern
    finer than the pixels fades to its mean.
    """
    period = spread(garment.period)
    cos, sin = spread(np.cos(garment.angle)), spread(np.sin(garment.angle))
    sharp = period / np.float32(4.0 * pixel)
    across = _triangle((u * sin + v * cos) / period)
    along = _triangle((u * cos - v * sin) / period)
    duty = spread(garment.duty)
    length = spread(garment.split) * np.float32(0.3)

    def step(height: np.ndarray, slope: np.ndarray | float) -> np.ndarray:
        return np.clip(height * slope + np.float32(0.5), 0.0, 1.0)

    stripes = step(across - duty, sharp)
    other = step(along - duty, sharp)
    edge = np.float32(1.0 / pixel)
    shares = {
        Weave.STRIPES: stripes,
        Weave.CHECKS: stripes + other - 2.0 * stripes * other,
        Weave.DOTS: step(across + along - 0.55 - duty, sharp * np.float32(0.7)),
        Weave.SPLIT: step(v - length, edge),
        Weave.BAND: step(period * np.float32(0.5) - np.abs(v - length), edge),
        Weave.PANELS: step(
            np.abs(u) - half * (np.float32(0.35) + np.float32(0.5) * spread(garment.split)), edge
        ),
    }
    total = np.zeros(np.broadcast_shapes(u.shape, v.shape), dtype=np.float32)
    for weave, share in shares.items():
        total += share * spread(garment.weave == weave)
    return total


def _triangle(phase: np.ndarray) -> np.ndarray:
    """A wave of period 1 between -1 and 1."""
    return np.abs(phase - np.floor(phase) - np.float32(0.5)) * np.float32(4.0) - np.float32(1.0)
