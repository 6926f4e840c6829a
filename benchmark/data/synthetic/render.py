"""From identities, cameras and shot numbers to pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vbench.data.synthetic.accessories import draw_behind, draw_in_front
from vbench.data.synthetic.canvas import Canvas
from vbench.data.synthetic.clothes import draw_legs, draw_trunk
from vbench.data.synthetic.draws import Stream, generator
from vbench.data.synthetic.figure import Figure, seen_materials
from vbench.data.synthetic.headwear import draw_head
from vbench.data.synthetic.latent import People
from vbench.data.synthetic.pose import draw_scenes, stand
from vbench.data.synthetic.sensors import cameras, draw_obstacle, draw_surroundings, expose
from vbench.types import Modality


@dataclass(frozen=True)
class Shot:
    """One picture to take: the ``number``-th of person ``pid`` by camera ``cam`` in this modality."""

    pid: int
    cam: int
    modality: Modality
    number: int

    @property
    def key(self) -> tuple[int, ...]:
        """What its pose, surroundings and noise are drawn from."""
        return (self.pid, self.cam, int(self.modality is Modality.INFRARED), self.number)


def render(people: People, shots: Sequence[Shot], seed: int, size: tuple[int, int]) -> np.ndarray:
    """Take pictures of ``people`` (row ``k`` is who stands in shot ``k``) at ``size`` (H, W).

    Returns B x H x W x 3, uint8. All shots are of one modality. A picture depends on its person, its shot,
    the seed and the size, and not on what else is in the batch.
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
