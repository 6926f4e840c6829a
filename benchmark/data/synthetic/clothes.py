"""Paint garments and their patterns."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from vbench.data.synthetic.canvas import coverage, ellipse, line, segment, spread
from vbench.data.synthetic.people import Legwear, Material, Weave
from vbench.data.synthetic.pose import Figure


def second_colour(
    garment: SimpleNamespace, u: np.ndarray, v: np.ndarray, half: np.ndarray, pixel: float
) -> np.ndarray:
    """Share of the second colour, 0 .. 1, B x h x W.

    ``u`` and ``v`` are coordinates on the garment (right of its middle, below its top) in body heights,
    ``half`` its half width and ``pixel`` the size of a pixel there. Edges are one pixel wide; a pattern finer
    than the pixels fades to its mean.
    """
    period = spread(garment.period)
    cos, sin = spread(np.cos(garment.angle)), spread(np.sin(garment.angle))
    sharp = period / np.float32(4.0 * pixel)
    across = _triangle((u * sin + v * cos) / period)
    along = _triangle((u * cos - v * sin) / period)
    duty = spread(garment.duty)
    length = spread(garment.split) * np.float32(0.3)

    def step(height: np.ndarray, slope: np.ndarray | np.float32 | float) -> np.ndarray:
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
    """A triangle wave of period 1 between -1 and 1."""
    return np.abs(phase - np.floor(phase) - np.float32(0.5)) * np.float32(4.0) - np.float32(1.0)


def draw_legs(figure: Figure) -> None:
    """Paint bare legs, legwear and shoes."""
    bones = figure.bones
    figure = figure.rows(bones.hip[1] - 0.05, bones.feet + 0.03)
    figure.only(figure.people.lower.kind != Legwear.TROUSERS, _bare_legs)
    figure.only(figure.people.lower.kind != Legwear.SKIRT, _trousers)
    _shoes(figure)
    figure.only(figure.people.lower.kind == Legwear.SKIRT, _skirt)


def draw_trunk(figure: Figure) -> None:
    """Paint the upper garment, with both arms over it."""
    bones, upper = figure.bones, figure.people.upper
    hem = bones.hip[1] + (0.03 + 0.2 * upper.hem) * bones.height
    hands = np.maximum(bones.arms[0][2][1], bones.arms[1][2][1])
    figure = figure.rows(bones.chest[1] - 0.05, np.maximum(hem, hands) + 0.04)
    canvas, pixel = figure.canvas, figure.canvas.pixel

    height = spread(bones.height)
    below = canvas.y - spread(bones.chest[1])
    share = below / spread(bones.hip[1] - bones.chest[1])
    inside = np.clip(share, 0.0, 1.0)
    middle = spread(bones.chest[0]) + inside * spread(bones.hip[0] - bones.chest[0])
    across = canvas.x - middle
    half = _trunk_half_width(figure, share, inside)
    distance = np.maximum(
        np.maximum(np.abs(across) - half, below - spread(hem - bones.chest[1])),
        np.float32(0.22) * np.abs(across) - below - np.float32(0.015) * height,
    )
    alpha = coverage(distance, pixel)

    width = spread(bones.width)
    second = second_colour(upper, across / width, below / height, half / width, pixel)
    cloth = _two_tone(figure, Material.UPPER, Material.UPPER_SECOND, second)
    rounding = across / half
    canvas.paint(alpha, cloth, np.float32(1.0) - np.float32(0.2) * np.minimum(rounding * rounding, 1.0))

    front = across - spread(bones.turn * 0.3 * bones.shoulder_half)
    opening = np.abs(front) - spread(upper.opening * bones.shoulder_half)
    canvas.paint(alpha * coverage(opening, pixel) * spread(upper.opening > 0), figure.look(Material.INNER))
    waist = line(canvas.y - spread(bones.hip[1]), 0.022 * bones.height, pixel)
    canvas.paint(alpha * waist * spread(figure.people.extras.belt), figure.look(Material.INNER))
    seam = line(front, 0.004, pixel) * spread(0.35 * (upper.opening == 0))
    canvas.paint(alpha * seam, figure.look(Material.UPPER_SECOND))

    for arm in bones.arms:
        _arm(figure, arm, cloth)


def _trunk_half_width(figure: Figure, share: np.ndarray, inside: np.ndarray) -> np.ndarray:
    bones, upper = figure.bones, figure.people.upper
    shoulder, hip = spread(bones.shoulder_half), spread(bones.hip_half * upper.roomy)
    nipped = (
        spread(figure.people.body.waist * bones.width) * np.float32(4.0) * inside * (np.float32(1.0) - inside)
    )
    flared = spread(upper.flare * bones.width) * np.maximum(share - np.float32(0.7), 0.0) * np.float32(3.0)
    return shoulder + inside * (hip - shoulder) - nipped + flared


def _arm(figure: Figure, arm: tuple, cloth: np.ndarray) -> None:
    canvas, people, pixel = figure.canvas, figure.people, figure.canvas.pixel
    thick = figure.bones.height * people.body.limb
    bones = ((arm[0], arm[1], 0.0, 0.028, 0.024), (arm[1], arm[2], 0.5, 0.024, 0.017))
    for start, end, offset, radius_start, radius_end in bones:
        axis, along = segment(canvas.x, canvas.y, start, end)
        radius = spread(thick * radius_start) + along * spread(thick * (radius_end - radius_start))
        shade = np.float32(1.0) - np.float32(0.22) * np.minimum((axis / radius) ** 2, 1.0)
        canvas.paint(coverage(axis - radius, pixel), figure.look(Material.SKIN), shade)
        length = spread(0.5 * figure.bones.height * 0.37 / pixel)
        sleeved = np.clip((spread(people.upper.sleeve) - offset - 0.5 * along) * length + 0.5, 0.0, 1.0)
        sleeve = coverage(axis - radius * spread(people.upper.roomy), pixel) * sleeved
        canvas.paint(sleeve, cloth, shade * np.float32(0.9))


def _leg_axes(figure: Figure, leg: tuple) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel, the distance to the axis of a leg, and the radius of the bare leg there."""
    canvas = figure.canvas
    thick = figure.bones.height * figure.people.body.limb
    thigh, along_thigh = segment(canvas.x, canvas.y, leg[0], leg[1])
    shin, along_shin = segment(canvas.x, canvas.y, leg[1], leg[2])
    lower = shin < thigh
    radius = np.where(lower, 0.027 - 0.009 * along_shin, 0.037 - 0.010 * along_thigh).astype(np.float32)
    return np.where(lower, shin, thigh), radius * spread(thick)


def _bare_legs(figure: Figure) -> None:
    for leg in figure.bones.legs:
        axis, radius = _leg_axes(figure, leg)
        shade = np.float32(1.0) - np.float32(0.2) * np.minimum((axis / radius) ** 2, 1.0)
        figure.canvas.paint(coverage(axis - radius, figure.canvas.pixel), figure.look(Material.SKIN), shade)


def _hem(figure: Figure) -> np.ndarray:
    """The y coordinate of the lower garment's hem in the scene."""
    lower, bones = figure.people.lower, figure.bones
    reach = np.choose(lower.kind, [0.86 + 0.12 * lower.hem, 0.34 + 0.24 * lower.hem, 0.32 + 0.5 * lower.hem])
    return bones.hip[1] + reach * (bones.feet - bones.hip[1])


def _lower_cloth(figure: Figure, half: np.ndarray) -> np.ndarray:
    canvas, bones = figure.canvas, figure.bones
    u = (canvas.x - spread(bones.hip[0])) / spread(bones.width)
    v = (canvas.y - spread(bones.hip[1])) / spread(bones.height)
    second = second_colour(figure.people.lower, u, v, half / spread(bones.width), canvas.pixel)
    return _two_tone(figure, Material.LOWER, Material.LOWER_SECOND, second)


def _trousers(figure: Figure) -> None:
    canvas, bones = figure.canvas, figure.bones
    cloth = _lower_cloth(figure, spread(bones.hip_half * 1.1))
    ends = coverage(canvas.y - spread(_hem(figure)), canvas.pixel)
    for leg in bones.legs:
        axis, radius = _leg_axes(figure, leg)
        radius = radius * spread(figure.people.lower.roomy)
        shade = np.float32(1.0) - np.float32(0.28) * np.minimum((axis / radius) ** 2, 1.0)
        canvas.paint(coverage(axis - radius, canvas.pixel) * ends, cloth, shade)


def _skirt(figure: Figure) -> None:
    canvas, bones = figure.canvas, figure.bones
    below = (canvas.y - spread(bones.hip[1])) / spread(bones.height)
    widening = spread(0.32 * (figure.people.lower.roomy - 0.75) * bones.width)
    half = spread(bones.hip_half * 1.05) + np.maximum(below, 0.0) * widening
    across = canvas.x - spread(bones.hip[0])
    ends = np.maximum(canvas.y - spread(_hem(figure)), spread(bones.hip[1] - 0.03) - canvas.y)
    rounding = across / half
    shade = np.float32(1.0) - np.float32(0.2) * np.minimum(rounding * rounding, 1.0)
    cloth = _lower_cloth(figure, half)
    canvas.paint(coverage(np.maximum(np.abs(across) - half, ends), canvas.pixel), cloth, shade)


def _shoes(figure: Figure) -> None:
    canvas, bones = figure.canvas, figure.bones
    look = figure.look(Material.SHOES)
    top = bones.feet - figure.people.lower.boot * bones.height
    for leg, sign in zip(bones.legs, (-1.0, 1.0), strict=True):
        axis, radius = _leg_axes(figure, leg)
        shaft = coverage(axis - radius * np.float32(1.25), canvas.pixel) * coverage(
            spread(top) - canvas.y, canvas.pixel
        )
        canvas.paint(shaft * spread(figure.people.lower.boot > 0), look)
        centre = (leg[2][0] + sign * 0.008 * bones.height, leg[2][1] + 0.006 * bones.height)
        radii = (0.032 * bones.height, 0.019 * bones.height)
        canvas.paint(coverage(ellipse(canvas.x, canvas.y, centre, radii), canvas.pixel), look)


def _two_tone(figure: Figure, first: Material, second: Material, share: np.ndarray) -> np.ndarray:
    """B x C x h x W: ``first`` where ``share`` is 0, ``second`` where it is 1."""
    base, other = figure.look(first)[:, :, None, None], figure.look(second)[:, :, None, None]
    return base + share[:, None] * (other - base)
