"""Render a batch of images: background, person, camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vbench.core.types import Modality
from vbench.data.synthetic.canvas import Canvas, coverage, rounded_box, spread
from vbench.data.synthetic.clothes import draw_legs, draw_trunk
from vbench.data.synthetic.extras import draw_behind, draw_head, draw_in_front
from vbench.data.synthetic.people import People, Stream, generator
from vbench.data.synthetic.pose import Figure, Scene, draw_scenes, seen_materials, stand

#: Standard deviation of the widest Gaussian blur of any camera, as a share of the image's height.
_WIDEST_BLUR = 0.0095


@dataclass(frozen=True)
class Cameras:
    """Constant properties of the camera of each image; arrays with B rows.

    ``wall``, ``floor`` and ``cast`` are B x C albedo and gain; ``blur`` a standard deviation in scene units;
    ``noise`` a standard deviation in pixel values of [0, 1].
    """

    wall: np.ndarray
    floor: np.ndarray
    horizon: np.ndarray
    cast: np.ndarray
    gain: np.ndarray
    contrast: np.ndarray
    blur: np.ndarray
    noise: np.ndarray
    falloff: np.ndarray


def cameras(numbers: np.ndarray, modality: Modality) -> Cameras:
    """The cameras with these numbers, the same in every synthetic set.

    Their traits are evenly spaced rather than random, so that no set has six bad cameras.
    """
    infrared = modality is Modality.INFRARED
    channels = 1 if infrared else 3

    def trait(which: int, low: float, high: float) -> np.ndarray:
        share = (numbers * (0.6180339887 + 0.1931 * which) + 0.37 * which + 0.5 * infrared) % 1.0
        return (low + (high - low) * share).astype(np.float32)

    def surface(which: int, low: float, high: float) -> np.ndarray:
        grey = trait(which, low, high)
        return np.stack(
            [grey + (channel > 0) * trait(which + channel, -0.09, 0.09) for channel in range(channels)],
            axis=1,
        )

    return Cameras(
        wall=surface(0, 0.16, 0.34) if infrared else surface(0, 0.35, 0.75),
        floor=surface(3, 0.1, 0.24) if infrared else surface(3, 0.2, 0.6),
        horizon=trait(6, 0.62, 0.88),
        cast=np.ones((len(numbers), 1), np.float32)
        if infrared
        else np.stack([trait(7 + channel, 0.86, 1.12) for channel in range(3)], axis=1),
        gain=trait(10, 0.8, 1.1),
        contrast=trait(11, 0.85, 1.1),
        blur=trait(12, 0.003, 0.007) * (1.3 if infrared else 1.0),
        noise=trait(13, 0.008, 0.02) * (1.4 if infrared else 1.0),
        falloff=trait(14, 0.15, 0.45) if infrared else trait(14, 0.0, 0.15),
    )


def draw_surroundings(canvas: Canvas, camera: Cameras, scene: Scene) -> None:
    """Paint the wall and floor of each camera, with doors, posts and shadows that vary per image."""
    where = scene.clutter
    ground = coverage(spread(camera.horizon + 0.06 * (where[:, 0] - 0.5)) - canvas.y, canvas.pixel)
    canvas.pixels[...] = camera.wall[:, :, None, None]
    for column in (1, 4, 7):
        centre = (0.6 * (where[:, column] - 0.5), np.full(len(where), 0.35))
        half = (0.015 + 0.07 * where[:, column + 1], 0.2 + 0.3 * where[:, column + 1])
        bar = rounded_box(canvas.x, canvas.y, centre, half, np.full(len(where), 0.005))
        canvas.paint(coverage(bar, canvas.pixel), camera.wall * (0.55 + 0.8 * where[:, column + 2])[:, None])
    canvas.paint(ground, camera.floor)


def draw_obstacle(canvas: Canvas, camera: Cameras, scene: Scene) -> None:
    """Paint a low obstacle in front of the person, in the images whose scene is ``occluded``."""
    where = scene.clutter
    centre = (0.3 * (where[:, 10] - 0.5), np.full(len(where), 1.0))
    half = (0.05 + 0.06 * where[:, 11], 0.1 + 0.15 * where[:, 11])
    box = rounded_box(canvas.x, canvas.y, centre, half, np.full(len(where), 0.01))
    canvas.paint(coverage(box, canvas.pixel) * spread(scene.occluded), camera.floor * np.float32(0.6))


def expose(canvas: Canvas, camera: Cameras, scene: Scene, noise: np.ndarray) -> np.ndarray:
    """Apply lighting, colour cast, contrast, blur and noise: B x H x W x 3, uint8.

    ``noise`` is standard normal, B x C x H x W. The single infrared channel is repeated three times.
    """
    light = scene.light
    slope = spread(0.5 * light[:, 0]) * canvas.x + spread(0.18 * light[:, 1]) * (canvas.y - np.float32(0.5))
    edge = (canvas.x * np.float32(2.0)) ** 2 + (canvas.y - np.float32(0.5)) ** 2
    lit = spread(camera.gain * (1.0 + 0.25 * light[:, 2])) * (1.0 + slope) - spread(camera.falloff) * edge
    cast = camera.cast * (1.0 + 0.12 * light[:, 3 : 3 + camera.cast.shape[1]])
    pixels = canvas.pixels * lit[:, None] * cast[:, :, None, None].astype(np.float32)
    contrast = camera.contrast[:, None, None, None]
    pixels = (pixels - np.float32(0.45)) * contrast + np.float32(0.45)
    pixels = _blur(pixels, camera.blur / canvas.pixel, reach=int(np.ceil(2.5 * _WIDEST_BLUR / canvas.pixel)))
    pixels += noise * camera.noise[:, None, None, None]
    levels = np.rint(np.clip(pixels, 0.0, 1.0) * np.float32(255.0)).astype(np.uint8)
    levels = np.moveaxis(levels, 1, 3)
    return np.repeat(levels, 3, axis=3) if levels.shape[3] == 1 else np.ascontiguousarray(levels)


def _blur(pixels: np.ndarray, sigma: np.ndarray, reach: int) -> np.ndarray:
    """Gaussian blur along both axes, with one ``sigma`` in pixels per image; border pixels are repeated."""
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets[None, :] / sigma[:, None].astype(np.float64)) ** 2)
    total = np.zeros(len(weights))
    for column in range(weights.shape[1]):
        total += weights[:, column]
    weights = (weights / total[:, None]).astype(np.float32)
    for axis in (2, 3):
        widths = [(0, 0)] * 4
        widths[axis] = (reach, reach)
        padded = np.pad(pixels, widths, mode="edge")
        blurred = np.zeros_like(pixels)
        for tap in range(2 * reach + 1):
            window = [slice(None)] * 4
            window[axis] = slice(tap, tap + pixels.shape[axis])
            blurred += padded[tuple(window)] * weights[:, tap, None, None, None]
        pixels = blurred
    return pixels


@dataclass(frozen=True)
class Shot:
    """One image to render: the ``number``-th of identity ``pid`` by camera ``cam`` in this modality."""

    pid: int
    cam: int
    modality: Modality
    number: int

    @property
    def key(self) -> tuple[int, ...]:
        """Key of the random numbers for its pose, background and noise."""
        return (self.pid, self.cam, int(self.modality is Modality.INFRARED), self.number)


def render(people: People, shots: Sequence[Shot], seed: int, size: tuple[int, int]) -> np.ndarray:
    """Render ``shots`` (row ``k`` of ``people`` is the identity in shot ``k``) at ``size`` (H, W).

    Returns B x H x W x 3, uint8. All shots have one modality. An image depends on its identity, its shot, the
    seed and the size, not on the rest of the batch.
    """
    modality = shots[0].modality
    materials = seen_materials(people, modality)
    scene = draw_scenes(seed, [shot.key for shot in shots])
    camera = cameras(np.array([shot.cam for shot in shots]), modality)
    canvas = Canvas.blank(len(shots), materials.shape[2], size)
    draw_surroundings(canvas, camera, scene)
    figure = Figure(canvas, people, stand(people, scene), materials)
    draw_behind(figure)
    draw_legs(figure)
    draw_trunk(figure)
    draw_head(figure)
    draw_in_front(figure)
    draw_obstacle(canvas, camera, scene)
    return expose(canvas, camera, scene, _noise(seed, shots, canvas.pixels.shape[1:]))


def _noise(seed: int, shots: Sequence[Shot], shape: tuple[int, ...]) -> np.ndarray:
    draws = (
        generator(seed, Stream.NOISE, *shot.key).standard_normal(shape, dtype=np.float32) for shot in shots
    )
    return np.stack(list(draws))
