"""Sample scenes, pose skeletons, and combine them into figures to paint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from vbench.core.types import Modality
from vbench.data.synthetic.canvas import Canvas
from vbench.data.synthetic.people import Draws, Material, People, Stream

Point = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Scene:
    """What differs between images of one identity by one camera; arrays of length B.

    Angles are in radians from the vertical, ``yaw`` in [-1, 1] from one side to the other, ``shift_x`` and
    ``shift_y`` in scene units. ``leg_swing``, ``knee``, ``arm_swing``, ``elbow`` are pairs (left, right).
    ``clutter``, B x 12 in [0, 1), determines the background; ``light``, B x 6 in [-1, 1), the lighting.
    """

    scale: np.ndarray
    shift_x: np.ndarray
    shift_y: np.ndarray
    yaw: np.ndarray
    lean: np.ndarray
    leg_swing: tuple[np.ndarray, np.ndarray]
    knee: tuple[np.ndarray, np.ndarray]
    arm_swing: tuple[np.ndarray, np.ndarray]
    elbow: tuple[np.ndarray, np.ndarray]
    head_turn: np.ndarray
    occluded: np.ndarray
    clutter: np.ndarray
    light: np.ndarray


def draw_scenes(seed: int, keys: Sequence[Sequence[int]]) -> Scene:
    """Sample one scene per key; each depends only on the seed and its key."""
    draws = Draws(seed, Stream.SCENE, keys, questions=64)
    return Scene(
        scale=draws.uniform(0.94, 1.04),
        shift_x=draws.bell(0.025),
        shift_y=draws.bell(0.02),
        yaw=draws.bell(0.7),
        lean=draws.bell(0.05),
        leg_swing=(draws.uniform(0.0, 0.2), draws.uniform(0.0, 0.2)),
        knee=(draws.bell(0.16), draws.bell(0.16)),
        arm_swing=(draws.uniform(0.05, 0.38), draws.uniform(0.05, 0.38)),
        elbow=(draws.uniform(-0.35, 0.15), draws.uniform(-0.35, 0.15)),
        head_turn=draws.bell(0.012),
        occluded=draws.yes(0.08),
        clutter=np.stack([draws.uniform() for _ in range(12)], axis=1),
        light=np.stack([draws.uniform(-1.0, 1.0) for _ in range(6)], axis=1),
    )


@dataclass(frozen=True)
class Skeleton:
    """Joints and widths in scene units (y grows downward); limbs are (left, right) pairs."""

    height: np.ndarray
    width: np.ndarray
    turn: np.ndarray
    head: Point
    head_radii: Point
    neck: Point
    chest: Point
    hip: Point
    shoulder_half: np.ndarray
    hip_half: np.ndarray
    feet: np.ndarray
    legs: tuple[tuple[Point, Point, Point], ...]
    arms: tuple[tuple[Point, Point, Point], ...]

    def rows(self, index: np.ndarray) -> Skeleton:
        """The skeletons at ``index``."""
        return Skeleton(**{field.name: _pick(getattr(self, field.name), index) for field in fields(self)})


def _pick(value, index: np.ndarray):
    return tuple(_pick(part, index) for part in value) if isinstance(value, tuple) else value[index]


def stand(people: People, scene: Scene) -> Skeleton:
    """Skeletons of a batch of persons in their scenes."""
    body = people.body
    height = 0.88 * body.height * scene.scale
    width = height * (1.0 - 0.3 * np.abs(scene.yaw))
    feet = 0.955 + scene.shift_y - 0.35 * (0.88 - height)
    middle = scene.shift_x
    hip_y = feet - body.leg * height
    head_half = 0.5 * 0.132 * body.head * height
    head_y = feet - height + head_half
    chest_y = head_y + head_half + 0.032 * height
    chest_x = middle + scene.lean * (hip_y - chest_y)
    shoulder_half, hip_half = body.shoulder * width, body.hip * width
    legs, arms = [], []
    for side, sign in enumerate((-1.0, 1.0)):
        legs.append(
            _limb(
                (middle + sign * 0.52 * hip_half, hip_y),
                sign * scene.leg_swing[side] * 0.8,
                scene.knee[side],
                0.5 * (feet - hip_y) * 0.97,
            )
        )
        arms.append(
            _limb(
                (chest_x + sign * 0.9 * shoulder_half, chest_y + 0.02 * height),
                sign * scene.arm_swing[side],
                sign * scene.elbow[side],
                0.185 * height,
            )
        )
    return Skeleton(
        height=height,
        width=width,
        turn=scene.yaw,
        head=(chest_x + scene.lean * 0.06 + scene.head_turn, head_y),
        head_radii=(head_half * 0.76, head_half),
        neck=(chest_x, chest_y - 0.02 * height),
        chest=(chest_x, chest_y),
        hip=(middle, hip_y),
        shoulder_half=shoulder_half,
        hip_half=hip_half,
        feet=feet,
        legs=tuple(legs),
        arms=tuple(arms),
    )


def _limb(root: Point, angle: np.ndarray, bend: np.ndarray, length: np.ndarray) -> tuple[Point, Point, Point]:
    """Root, joint and end of a limb of two bones of ``length`` each."""
    joint = (root[0] + np.sin(angle) * length, root[1] + np.cos(angle) * length)
    end = (joint[0] + np.sin(angle + bend) * length, joint[1] + np.cos(angle + bend) * length)
    return root, joint, end


#: Factor on the contrast of garment patterns in infrared, where they differ less than in colour.
INFRARED_TEXTURE_CONTRAST = 0.8


@dataclass(frozen=True)
class Figure:
    """A batch of persons to paint. ``materials`` is B x materials x C: albedo in the camera's modality."""

    canvas: Canvas
    people: People
    bones: Skeleton
    materials: np.ndarray

    def look(self, material: Material) -> np.ndarray:
        """B x C of one material."""
        return self.materials[:, material]

    def rows(self, top: np.ndarray, bottom: np.ndarray) -> Figure:
        """The same figure on the strip of the canvas between ``top`` and ``bottom``."""
        return replace(self, canvas=self.canvas.rows(top, bottom))

    def only(self, mask: np.ndarray, draw: Callable[[Figure], None]) -> None:
        """Call ``draw`` on the images where ``mask`` is true."""
        index = np.flatnonzero(mask)
        if len(index) == 0:
            return
        some = Figure(
            canvas=replace(self.canvas, pixels=self.canvas.pixels[index]),
            people=self.people.rows(index),
            bones=self.bones.rows(index),
            materials=self.materials[index],
        )
        draw(some)
        self.canvas.pixels[index] = some.canvas.pixels


def seen_materials(people: People, modality: Modality) -> np.ndarray:
    """B x materials x C albedo in [0, 1]: three channels of colour, or one of infrared reflectance."""
    if modality is Modality.VISIBLE:
        return people.palette
    seen = people.reflectance[:, :, None].copy()
    for second, first in ((Material.UPPER_SECOND, Material.UPPER), (Material.LOWER_SECOND, Material.LOWER)):
        seen[:, second] = seen[:, first] + np.float32(INFRARED_TEXTURE_CONTRAST) * (
            seen[:, second] - seen[:, first]
        )
    return seen
