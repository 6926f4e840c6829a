"""What people are made of: materials, their colours, and how they reflect infrared."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from vbench.data.synthetic.draws import Draws


class Material(IntEnum):
    """What a part is made of: an index into ``palette`` and ``reflectance``."""

    SKIN = 0
    HAIR = 1
    HAT = 2
    UPPER = 3
    UPPER_SECOND = 4
    INNER = 5
    LOWER = 6
    LOWER_SECOND = 7
    SHOES = 8
    BAG = 9
    LOGO = 10
    SCARF = 11


#: What is printed on, worn over or seen against what.
_GROUNDS = {
    Material.UPPER_SECOND: Material.UPPER,
    Material.LOWER_SECOND: Material.LOWER,
    Material.INNER: Material.UPPER,
    Material.LOGO: Material.UPPER,
    Material.BAG: Material.UPPER,
}

#: Grounds stay away from black and white, so that there is room for something lighter and something darker.
_GROUND_RANGE = (0.36, 0.64)


def draw_signs(draws: Draws) -> dict[Material, np.ndarray]:
    """Whether each second material is lighter (1) or darker (-1) than its ground, to any camera.

    Weave and print are structure: infrared changes their contrast but seldom turns it round.
    """
    return {second: draws.yes(0.5) * 2 - 1 for second in _GROUNDS}


def _levels(draws: Draws, signs: dict[Material, np.ndarray]) -> dict[Material, np.ndarray]:
    """A brightness in [0, 1] for each material; two calls share ``signs`` and nothing else."""
    grounds = set(_GROUNDS.values())
    ranges = {material: _GROUND_RANGE if material in grounds else (0.12, 0.92) for material in Material}
    levels = {material: draws.uniform(*ranges[material]) for material in Material}
    for second, ground in _GROUNDS.items():
        levels[second] = levels[ground] + signs[second] * draws.uniform(0.26, 0.36)
    return levels


def draw_reflectance(draws: Draws, signs: dict[Material, np.ndarray]) -> np.ndarray:
    """Infrared albedo of every material, n x materials, in [0, 1]."""
    levels = _levels(draws, signs)
    levels[Material.SKIN] = draws.uniform(0.55, 0.75)
    return np.stack([levels[material] for material in Material], axis=1)


def draw_palette(draws: Draws, signs: dict[Material, np.ndarray]) -> np.ndarray:
    """Visible albedo of every material, n x materials x 3 (RGB), in [0, 1]."""
    values = _levels(draws, signs)
    colours = [
        _colour(draws.uniform(), 0.6 * draws.uniform() ** 2, values[material]) for material in Material
    ]
    colours[Material.SKIN] = _skin(draws.uniform())
    colours[Material.HAIR] = _colour(
        draws.uniform(0.03, 0.13), draws.uniform(0.1, 0.7), values[Material.HAIR]
    )
    return np.stack(colours, axis=1)


def _skin(tone: np.ndarray) -> np.ndarray:
    dark, light = np.array([0.33, 0.21, 0.15]), np.array([0.93, 0.76, 0.65])
    return (dark + tone[:, None] * (light - dark)).astype(np.float32)


def _colour(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """HSV to RGB, all in [0, 1]."""
    sector = (hue[:, None] * 6.0 + np.array([5.0, 3.0, 1.0])) % 6.0
    dip = np.clip(np.minimum(sector, 4.0 - sector), 0.0, 1.0)
    return (value[:, None] * (1.0 - saturation[:, None] * dip)).astype(np.float32)
