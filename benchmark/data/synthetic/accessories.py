"""Bags, chest prints and scarves."""

from __future__ import annotations

import numpy as np

from vbench.data.synthetic.figure import Figure
from vbench.data.synthetic.latent import Bag, Logo
from vbench.data.synthetic.materials import Material
from vbench.data.synthetic.shapes import coverage, ellipse, line, rounded_box, segment, spread


def draw_behind(figure: Figure) -> None:
    """What the trunk hides in part: a backpack."""
    bones = figure.bones
    strip = figure.rows(bones.chest[1] - 0.06, bones.chest[1] + 0.36)
    strip.only(figure.people.extras.bag == Bag.BACKPACK, _backpack)


def draw_in_front(figure: Figure) -> None:
    """Chest print, straps, bags and scarf."""
    bones, extras = figure.bones, figure.people.extras
    trunk = figure.rows(bones.chest[1] - 0.06, bones.feet)
    trunk.only(extras.logo != Logo.NONE, _logo)
    trunk.only(extras.bag == Bag.BACKPACK, _straps)
    trunk.only(extras.bag == Bag.SHOULDER, _shoulder_bag)
    trunk.only(extras.bag == Bag.HANDBAG, _handbag)
    figure.rows(bones.neck[1] - 0.05, bones.chest[1] + 0.2).only(extras.scarf > 0, _scarf)


def _box(figure: Figure, centre: tuple, half: tuple, look: np.ndarray) -> None:
    canvas = figure.canvas
    box = rounded_box(canvas.x, canvas.y, centre, half, 0.25 * np.minimum(half[0], half[1]))
    canvas.paint(coverage(box, canvas.pixel), look)


def _backpack(figure: Figure) -> None:
    bones, size = figure.bones, figure.people.extras.bag_size
    half = (bones.shoulder_half * (0.98 + 0.22 * size), 0.135 * bones.height * size)
    centre = (
        bones.chest[0] - 0.35 * bones.turn * bones.shoulder_half,
        bones.chest[1] - 0.015 * bones.height + half[1],
    )
    _box(figure, centre, half, figure.look(Material.BAG))


def _straps(figure: Figure) -> None:
    canvas, bones = figure.canvas, figure.bones
    for side in (-0.55, 0.55):
        start = (bones.chest[0] + side * bones.shoulder_half, bones.chest[1] - 0.005)
        end = (bones.chest[0] + 1.3 * side * bones.shoulder_half, bones.chest[1] + 0.19 * bones.height)
        strap = line(segment(canvas.x, canvas.y, start, end)[0], 0.022 * bones.height, canvas.pixel)
        canvas.paint(strap, figure.look(Material.BAG))


def _shoulder_bag(figure: Figure) -> None:
    canvas, bones, extras = figure.canvas, figure.bones, figure.people.extras
    look = figure.look(Material.BAG)
    start = (bones.chest[0] - extras.bag_side * 0.7 * bones.shoulder_half, bones.chest[1])
    end = (bones.hip[0] + extras.bag_side * 1.05 * bones.hip_half, bones.hip[1] + 0.01 * bones.height)
    strap = line(segment(canvas.x, canvas.y, start, end)[0], 0.02 * bones.height, canvas.pixel)
    canvas.paint(strap, look)
    half = (0.05 * bones.width * extras.bag_size, 0.042 * bones.height * extras.bag_size)
    _box(figure, (end[0], end[1] + 0.8 * half[1]), half, look)


def _handbag(figure: Figure) -> None:
    bones, extras = figure.bones, figure.people.extras
    left, right = bones.arms[0][2], bones.arms[1][2]
    hand = tuple(np.where(extras.bag_side < 0, one, other) for one, other in zip(left, right, strict=True))
    half = (0.048 * bones.width * extras.bag_size, 0.06 * bones.height * extras.bag_size)
    _box(figure, (hand[0], hand[1] + 0.012 * bones.height + half[1]), half, figure.look(Material.BAG))


def _logo(figure: Figure) -> None:
    canvas, bones, extras = figure.canvas, figure.bones, figure.people.extras
    radius = extras.logo_size * bones.height
    flat = radius * (1.0 - 0.25 * np.abs(bones.turn))
    x = bones.chest[0] + (extras.logo_x + 0.3 * bones.turn) * bones.shoulder_half
    y = bones.chest[1] + (0.05 + 0.25 * extras.logo_y) * bones.height
    disc = ellipse(canvas.x, canvas.y, (x, y), (flat, radius))
    square = rounded_box(canvas.x, canvas.y, (x, y), (flat, radius), 0.1 * radius)
    bar = rounded_box(canvas.x, canvas.y, (x, y), (2.0 * flat, 0.5 * radius), 0.1 * radius)
    kind = extras.logo[:, None, None]
    distance = np.where(kind == Logo.DISC, disc, np.where(kind == Logo.SQUARE, square, bar))
    canvas.paint(coverage(distance, canvas.pixel), figure.look(Material.LOGO))


def _scarf(figure: Figure) -> None:
    canvas, bones, extras = figure.canvas, figure.bones, figure.people.extras
    half = 0.5 * bones.shoulder_half
    level = bones.chest[1] - 0.012 * bones.height
    wrap, _ = segment(canvas.x, canvas.y, (bones.chest[0] - half, level), (bones.chest[0] + half, level))
    end = (bones.chest[0] + 0.45 * extras.bag_side * half, bones.chest[1] + 0.13 * bones.height)
    tail, _ = segment(canvas.x, canvas.y, (end[0], level), end)
    distance = np.minimum(wrap - spread(0.024 * bones.height), tail - spread(0.02 * bones.height))
    canvas.paint(coverage(distance, canvas.pixel), figure.look(Material.SCARF))
