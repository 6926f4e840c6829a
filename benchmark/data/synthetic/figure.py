"""One batch of people on a canvas: the parts that every painter of a body part works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from vbench.data.synthetic.canvas import Canvas
from vbench.data.synthetic.latent import People
from vbench.data.synthetic.materials import Material
from vbench.data.synthetic.pose import Skeleton
from vbench.types import Modality

#: Printed patterns and second yarns differ less in infrared than in colour.
INFRARED_TEXTURE_CONTRAST = 0.8


@dataclass(frozen=True)
class Figure:
    """``materials`` is B x materials x C: what each material looks like to the camera at work."""

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
        """Draw a part on those pictures alone whose person has it."""
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
