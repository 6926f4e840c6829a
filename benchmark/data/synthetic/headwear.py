"""Neck, head, hair and headgear."""

from __future__ import annotations

import numpy as np

from vbench.data.synthetic.figure import Figure
from vbench.data.synthetic.latent import Head
from vbench.data.synthetic.materials import Material
from vbench.data.synthetic.shapes import coverage, ellipse, line, rounded_box, segment, spread

#: Facial features are smaller than a pixel below this many pixels a scene.
_FACE_PIXEL = 1 / 100


def draw_head(figure: Figure) -> None:
    """What hangs behind the head, the head, and what sits on it."""
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
    """Coverage of the head's oval, grown and lifted by shares of its half height."""
    canvas, bones = figure.canvas, figure.bones
    rx, ry = bones.head_radii
    centre = (bones.head[0], bones.head[1] - lift * ry)
    return coverage(ellipse(canvas.x, canvas.y, centre, (rx * grow_x, ry * grow_y)), canvas.pixel)


def _above(figure: Figure, level: np.ndarray | float) -> np.ndarray:
    """Coverage of everything above ``level``, in half heights of the head from its middle upward."""
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
