"""Sample the appearance of identities: body, clothes, and the albedo of their materials."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import SimpleNamespace

import numpy as np

from vbench.core.seeds import entropy


class Material(IntEnum):
    """Material of a part: an index into ``palette`` and ``reflectance``."""

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


#: Material -> the ground that it is printed on, worn over or seen against.
_GROUNDS = {
    Material.UPPER_SECOND: Material.UPPER,
    Material.LOWER_SECOND: Material.LOWER,
    Material.INNER: Material.UPPER,
    Material.LOGO: Material.UPPER,
    Material.BAG: Material.UPPER,
}

#: Brightness of grounds: neither black nor white, so that a material on them can be lighter or darker.
_GROUND_RANGE = (0.36, 0.64)


def draw_signs(draws: Draws) -> dict[Material, np.ndarray]:
    """Sample whether each second material is lighter (1) or darker (-1) than its ground, in both modalities.

    Infrared changes the contrast of weave and print, but seldom inverts it.
    """
    return {second: draws.yes(0.5) * 2 - 1 for second in _GROUNDS}


def _levels(draws: Draws, signs: dict[Material, np.ndarray]) -> dict[Material, np.ndarray]:
    """Sample a brightness in [0, 1] for each material; two calls have only ``signs`` in common."""
    grounds = set(_GROUNDS.values())
    ranges = {material: _GROUND_RANGE if material in grounds else (0.12, 0.92) for material in Material}
    levels = {material: draws.uniform(*ranges[material]) for material in Material}
    for second, ground in _GROUNDS.items():
        levels[second] = levels[ground] + signs[second] * draws.uniform(0.26, 0.36)
    return levels


def draw_reflectance(draws: Draws, signs: dict[Material, np.ndarray]) -> np.ndarray:
    """Sample the infrared albedo of every material: n x materials, in [0, 1]."""
    levels = _levels(draws, signs)
    levels[Material.SKIN] = draws.uniform(0.55, 0.75)
    return np.stack([levels[material] for material in Material], axis=1)


def draw_palette(draws: Draws, signs: dict[Material, np.ndarray]) -> np.ndarray:
    """Sample the visible albedo of every material: n x materials x 3 (RGB), in [0, 1]."""
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


class Head(IntEnum):
    """Hair or headgear."""

    BALD = 0
    SHORT = 1
    LONG = 2
    BUN = 3
    CAP = 4
    BEANIE = 5
    HOOD = 6
    BROAD_HAT = 7


class Weave(IntEnum):
    """Kinds of garment pattern."""

    PLAIN = 0
    STRIPES = 1
    CHECKS = 2
    DOTS = 3
    SPLIT = 4
    BAND = 5
    PANELS = 6


class Legwear(IntEnum):
    """Kinds of lower garment."""

    TROUSERS = 0
    SHORTS = 1
    SKIRT = 2


class Bag(IntEnum):
    """Kinds of bag."""

    NONE = 0
    BACKPACK = 1
    SHOULDER = 2
    HANDBAG = 3


class Logo(IntEnum):
    """Kinds of chest print."""

    NONE = 0
    DISC = 1
    SQUARE = 2
    BAR = 3


@dataclass(frozen=True)
class People:
    """``n`` identities; every array has one row per identity.

    ``body``, ``head``, ``upper``, ``lower``, ``extras`` are namespaces of shape parameters, lengths as a
    share of body height. ``palette`` is n x materials x 3, visible albedo in [0, 1]; ``reflectance`` is
    n x materials, infrared albedo in [0, 1]. The two agree only in whether a print is lighter or darker than
    its ground. Infrared images do not depend on the palette.
    """

    body: SimpleNamespace
    head: SimpleNamespace
    upper: SimpleNamespace
    lower: SimpleNamespace
    extras: SimpleNamespace
    palette: np.ndarray
    reflectance: np.ndarray

    def rows(self, index: np.ndarray) -> People:
        """The identities at ``index``, in that order, repeats allowed."""

        def pick(part: SimpleNamespace) -> SimpleNamespace:
            return SimpleNamespace(**{name: value[index] for name, value in vars(part).items()})

        return People(
            body=pick(self.body),
            head=pick(self.head),
            upper=pick(self.upper),
            lower=pick(self.lower),
            extras=pick(self.extras),
            palette=self.palette[index],
            reflectance=self.reflectance[index],
        )


def draw_people(seed: int, pids: Sequence[int]) -> People:
    """Sample the identities numbered ``pids``; each depends only on the seed and its number."""
    draws = Draws(seed, Stream.IDENTITY, ((pid,) for pid in pids), questions=128)
    signs = draw_signs(draws)
    return People(
        body=_body(draws),
        head=_head(draws),
        upper=_upper(draws),
        lower=_lower(draws),
        extras=_extras(draws),
        reflectance=draw_reflectance(draws, signs),
        palette=draw_palette(draws, signs),
    )


def _body(draws: Draws) -> SimpleNamespace:
    return SimpleNamespace(
        height=draws.uniform(0.82, 1.0),
        shoulder=draws.uniform(0.088, 0.136),
        hip=draws.uniform(0.072, 0.112),
        waist=draws.uniform(-0.012, 0.022),
        leg=draws.uniform(0.44, 0.53),
        limb=draws.uniform(0.8, 1.3),
        head=draws.uniform(0.9, 1.18),
    )


def _head(draws: Draws) -> SimpleNamespace:
    return SimpleNamespace(
        kind=draws.choice([1, 3, 3, 2, 2, 2, 2, 2]),
        volume=draws.uniform(0.0, 1.0),
        length=draws.uniform(0.3, 1.0),
        beard=draws.yes(0.2),
    )


def _weave(draws: Draws, weights: Sequence[float]) -> dict[str, np.ndarray]:
    """A pattern: kind, period, angle, share of the second colour, and position of a split."""
    upright = draws.choice([2, 2, 1, 1])
    return {
        "weave": draws.choice(weights),
        "period": (0.078 * 2.4 ** draws.uniform(0.0, 1.0)).astype(np.float32),
        "angle": (np.array([0.0, 0.5, 0.25, 0.75])[upright] * np.pi + draws.bell(0.12)).astype(np.float32),
        "duty": draws.uniform(-0.35, 0.35),
        "split": draws.uniform(0.25, 0.75),
    }


def _upper(draws: Draws) -> SimpleNamespace:
    return SimpleNamespace(
        **_weave(draws, [1, 5, 4, 3, 2, 2, 2]),
        hem=draws.uniform(0.0, 1.0) ** 2,
        flare=draws.uniform(-0.01, 0.03),
        sleeve=np.array([0.0, 0.3, 0.6, 1.0], np.float32)[draws.choice([1, 2, 1, 4])]
        + draws.uniform(0.0, 0.12),
        opening=draws.yes(0.3) * draws.uniform(0.18, 0.42),
        roomy=draws.uniform(0.9, 1.25),
    )


def _lower(draws: Draws) -> SimpleNamespace:
    return SimpleNamespace(
        **_weave(draws, [2, 4, 3, 3, 1, 2, 3]),
        kind=draws.choice([5, 2, 2]),
        hem=draws.uniform(0.0, 1.0),
        roomy=draws.uniform(0.82, 1.45),
        boot=draws.yes(0.45) * draws.uniform(0.05, 0.2),
    )


def _extras(draws: Draws) -> SimpleNamespace:
    return SimpleNamespace(
        bag=draws.choice([3, 2, 2, 2]),
        bag_size=draws.uniform(0.9, 1.5),
        bag_side=draws.yes(0.5) * 2 - 1,
        logo=draws.choice([4, 2, 2, 2]),
        logo_size=draws.uniform(0.03, 0.05),
        logo_x=draws.uniform(-0.4, 0.4),
        logo_y=draws.uniform(0.2, 0.6),
        scarf=draws.yes(0.25),
        belt=draws.yes(0.3),
    )


class Stream(IntEnum):
    """Independent streams of one seed: using more numbers in one does not change another."""

    IDENTITY = 1
    SCENE = 2
    NOISE = 3
    SPLIT = 4
    GALLERY = 5


def generator(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """The generator of the item (an identity, an image) with this ``key``."""
    return np.random.default_rng([entropy(seed), int(stream), *key])


class Draws:
    """Samples random variables for ``n`` items from one row of uniform numbers per item.

    Every method uses the next column (at most ``questions`` in all) and returns an array of length ``n``
    (float32, or int64 for :meth:`choice`). Row ``k`` depends only on the seed, the stream and ``keys[k]``.
    """

    def __init__(self, seed: int, stream: Stream, keys: Iterable[Sequence[int]], questions: int) -> None:
        rows = [generator(seed, stream, *key).random(questions) for key in keys]
        self._columns = iter(np.stack(rows, axis=1))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Uniform in [low, high)."""
        return (low + (high - low) * next(self._columns)).astype(np.float32)

    def bell(self, spread: float) -> np.ndarray:
        """Triangular distribution on [-spread, spread], symmetric about 0; uses two columns."""
        return (spread * (next(self._columns) - next(self._columns))).astype(np.float32)

    def yes(self, probability: float) -> np.ndarray:
        """1 with this probability, else 0."""
        return (next(self._columns) < probability).astype(np.float32)

    def choice(self, weights: Sequence[float]) -> np.ndarray:
        """Index into ``weights``, with probability proportional to them."""
        edges = np.cumsum(np.asarray(weights, dtype=np.float64))
        return np.searchsorted(edges[:-1] / edges[-1], next(self._columns), side="right")
