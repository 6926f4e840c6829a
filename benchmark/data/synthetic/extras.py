"""Paint heads, headwear, bags, prints and scarves."""

from __future__ import annotations

import numpy as np

from vbench.data.synthetic.canvas import coverage, ellipse, line, rounded_box, segment, spread
from vbench.data.synthetic.people import Bag, Head, Logo, Material
from vbench.data.synthetic.pose import Figure

#: Facial features are painted only if pixels are at most this large, in scene units.
_FACE_PIXEL = 1 / 100


def draw_head(figure: Figure) -> None:
    """Paint what is behind the head, the head, and what is on it."""
    bones = figure.bones
    radius = bones.head_radii[1]
    whole = figure
    figure = whole.rows(bones.head[1] - 2.3 * radius, bones.chest[1] + 0.03)
    kind = figure.people.head.kind
    whole.rows(bones.head[1] - 1.5 * radius, bones.chest[1] + 0.2).only(kind == Head.LONG, _falling_hair)
    figure.only(kind == Head.HOOD, _hood)
    _face(figure)
    figure.only((kind == Head.SHORT) | (kind == Head.LONG) | (kind == Head.BUN), _hair)
    figure.only(kind == Head.BUN, _bun)
    figure.only(kind == Head.CAP, _cap)
    figure.only(kind == Head.BEANIE, _beanie)
    figure.only(kind == Head.BROAD_HAT, _broad_hat)


def _oval(
    figure: Figure, grow_x: np.ndarray | float = 1.0, grow_y: np.ndarray | float = 1.0, lift: float = 0.0
):
    """Coverage of the head's oval, its radii multiplied by ``grow``, raised by ``lift`` half heights."""
    canvas, bones = figure.canvas, figure.bones
    rx, ry = bones.head_radii
    centre = (bones.head[0], bones.head[1] - lift * ry)
    return coverage(ellipse(canvas.x, canvas.y, centre, (rx * grow_x, ry * grow_y)), canvas.pixel)


def _above(figure: Figure, level: np.ndarray | float) -> np.ndarray:
    """Coverage of everything above ``level``, given in half heights of the head above its middle."""
    limit = figure.bones.head[1] - level * figure.bones.head_radii[1]
    return coverage(figure.canvas.y - spread(limit), figure.canvas.pixel)


def _face(figure: Figure) -> None:
    canvas, bones = figure.canvas, figure.bones
    skin, hair = figure.look(Material.SKIN), figure.look(Material.HAIR)
    axis, _ = segment(canvas.x, canvas.y, bones.head, bones.neck)
    neck = coverage(axis - spread(0.028 * bones.height), canvas.pixel)
    canvas.paint(neck, skin * np.float32(0.82))
    oval = _oval(figure)
    canvas.paint(oval, skin)
    beard = oval * (np.float32(1.0) - _above(figure, -0.35)) * spread(figure.people.head.beard)
    canvas.paint(beard, hair)
    if canvas.pixel > _FACE_PIXEL:
        return
    rx, ry = bones.head_radii
    middle = bones.head[0] + 0.3 * bones.turn * rx
    for side in (-0.38, 0.38):
        eye = ellipse(
            canvas.x, canvas.y, (middle + side * rx, bones.head[1] - 0.02 * ry), (0.14 * rx, 0.07 * ry)
        )
        canvas.paint(coverage(eye, canvas.pixel) * oval, skin * np.float32(0.25))
        brow, _ = segment(
            canvas.x,
            canvas.y,
            (middle + (side - 0.18) * rx, bones.head[1] - 0.2 * ry),
            (middle + (side + 0.18) * rx, bones.head[1] - 0.2 * ry),
        )
        canvas.paint(line(brow, 0.05 * ry, canvas.pixel) * oval, hair)
    mouth, _ = segment(
        canvas.x,
        canvas.y,
        (middle - 0.25 * rx, bones.head[1] + 0.55 * ry),
        (middle + 0.25 * rx, bones.head[1] + 0.55 * ry),
    )
    canvas.paint(line(mouth, 0.06 * ry, canvas.pixel) * oval, skin * np.float32(0.6))


def _hair(figure: Figure) -> None:
    volume = figure.people.head.volume
    crown = _oval(figure, 1.05 + 0.2 * volume, 1.03 + 0.15 * volume, lift=0.06)
    figure.canvas.paint(crown * _above(figure, 0.42 - 0.3 * volume), figure.look(Material.HAIR))


def _falling_hair(figure: Figure) -> None:
    canvas, bones = figure.canvas, figure.bones
    rx, ry = bones.head_radii
    top = bones.head[1] - 0.7 * ry
    bottom = bones.chest[1] + (0.16 * figure.people.head.length - 0.01) * bones.height
    half = (rx * (1.2 + 0.3 * figure.people.head.volume), 0.5 * (bottom - top))
    strands = rounded_box(canvas.x, canvas.y, (bones.head[0], 0.5 * (top + bottom)), half, 0.5 * rx)
    canvas.paint(coverage(strands, canvas.pixel), figure.look(Material.HAIR) * np.float32(0.85))


def _bun(figure: Figure) -> None:
    canvas, bones = figure.canvas, figure.bones
    rx, ry = bones.head_radii
    size = 0.34 + 0.2 * figure.people.head.volume
    centre = (bones.head[0], bones.head[1] - (1.08 + 0.8 * size) * ry)
    knot = ellipse(canvas.x, canvas.y, centre, (size * rx * 1.2, size * ry))
    canvas.paint(coverage(knot, canvas.pixel), figure.look(Material.HAIR))


def _hood(figure: Figure) -> None:
    grow = 1.3 + 0.25 * figure.people.head.volume
    figure.canvas.paint(
        _oval(figure, grow, grow * 0.95, lift=0.08), figure.look(Material.UPPER) * np.float32(0.85)
    )


def _cap(figure: Figure) -> None:
    canvas, bones = figure.canvas, figure.bones
    rx, ry = bones.head_radii
    look = figure.look(Material.HAT)
    canvas.paint(_oval(figure, 1.12, 1.08, lift=0.05) * _above(figure, 0.3), look)
    reach = 0.5 + 0.5 * figure.people.head.volume
    centre = (bones.head[0] + (0.25 + 0.5 * bones.turn) * rx * reach, bones.head[1] - 0.32 * ry)
    brim = ellipse(canvas.x, canvas.y, centre, (rx * (1.0 + 0.5 * reach), 0.17 * ry))
    canvas.paint(coverage(brim, canvas.pixel), look * np.float32(0.8))


def _beanie(figure: Figure) -> None:
    volume = figure.people.head.volume
    knit = _oval(figure, 1.12, 1.15 + 0.35 * volume, lift=0.12)
    look = figure.look(Material.HAT)
    figure.canvas.paint(knit * _above(figure, 0.25), look)
    cuff = knit * _above(figure, 0.25) * (np.float32(1.0) - _above(figure, 0.55))
    figure.canvas.paint(cuff, look * np.float32(0.7))


def _broad_hat(figure: Figure) -> None:
    canvas, bones = figure.canvas, figure.bones
    rx, ry = bones.head_radii
    look = figure.look(Material.HAT)
    tall = 0.35 + 0.3 * figure.people.head.volume
    crown = rounded_box(
        canvas.x,
        canvas.y,
        (bones.head[0], bones.head[1] - (0.45 + tall) * ry),
        (rx * 0.95, tall * ry),
        0.3 * rx,
    )
    canvas.paint(coverage(crown, canvas.pixel), look)
    brim = ellipse(
        canvas.x, canvas.y, (bones.head[0], bones.head[1] - 0.45 * ry), (rx * (1.7 + 0.5 * tall), 0.17 * ry)
    )
    canvas.paint(coverage(brim, canvas.pixel), look * np.float32(0.85))


def draw_behind(figure: Figure) -> None:
    """Paint what is behind the trunk: a backpack."""
    bones = figure.bones
    strip = figure.rows(bones.chest[1] - 0.06, bones.chest[1] + 0.36)
    strip.only(figure.people.extras.bag == Bag.BACKPACK, _backpack)


def draw_in_front(figure: Figure) -> None:
    """Paint chest print, straps, bags and scarf."""
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
