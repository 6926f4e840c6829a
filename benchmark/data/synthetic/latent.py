"""Who a synthetic person is: everything about an identity that stays the same from picture to picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import SimpleNamespace

import numpy as np

from vbench.data.synthetic.draws import Draws, Stream
from vbench.data.synthetic.materials import draw_palette, draw_reflectance, draw_signs


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
    """``n`` identities. Every field is an array with one row an identity.

    ``body``, ``head``, ``upper``, ``lower``, ``extras`` are namespaces of shape parameters, lengths as a
    share of body height. ``palette`` is n x materials x 3, visible albedo in [0, 1]; ``reflectance`` is
    n x materials, infrared albedo in [0, 1]; the two share nothing but whether a print is lighter or darker
    than its ground. Infrared pictures never read the palette.
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
    """Draw the identities numbered ``pids``; each depends on the seed and its own number alone."""
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
    """A pattern: what kind, how large, which way round, how much of it is second colour."""
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
