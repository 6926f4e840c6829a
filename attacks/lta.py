"""Local transformation attack: away from the embedding of the image with a grey patch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from vbench.attacks.base import Context, PerImageAttack
from vbench.attacks.distances import squared_distance
from vbench.attacks.steps import ascend, stream_seeds
from vbench.core.settings import param
from vbench.core.types import Modality
from vbench.data.pixels import grey_images
from vbench.victims.base import Victim

#: An image whose channels differ by less than this counts as grey.
_GREY = 1.5 / 255
_TRIES = 100

Share = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class LTA(PerImageAttack):
    """Raise the squared distance to the embedding of a copy of the image in which a random patch is grey.

    Gong et al., CVPRW 2022, in the setting of their released code: fifteen steps of eps/5 (there 1/255 at
    5/255) with momentum 1, from the clean image, a new patch at every step. The patch covers ``smallest`` to
    ``largest`` of the image, with an aspect ratio between ``ratio`` and its inverse; a patch that does not
    fit is sampled again.

    An infrared image is grey already, so its copy is the image itself and the gradient at the start is
    exactly zero; the method was published for visible images and does not cover this case. Here such an image
    starts from noise in the whole budget, which makes the attack SMA with momentum. The distance is the one
    the victim ranks by; the authors take the mean squared difference of unit-length embeddings.
    """

    name: ClassVar[str] = "lta"
    version: ClassVar[int] = 1
    gradients_per_image: ClassVar[int] = 15
    forwards_per_image: ClassVar[int] = 15
    summary: ClassVar[str] = "away from copies of the image with a patch turned grey"
    paper: ClassVar[str] = (
        "Gong et al., Person Re-identification Method Based on Color Attack and Joint Defence, CVPRW 2022"
    )
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2"})

    steps: Annotated[int, Field(ge=1)] = param(15, "gradient steps")
    step_size: Annotated[float, Field(gt=0)] | None = param(
        None, "pixel units; none means that all steps reach 3 eps"
    )
    momentum: Annotated[float, Field(ge=0)] = param(1.0, "share of the past direction that is kept")
    smallest: Share = param(0.02, "smallest share of the image that a patch covers")
    largest: Share = param(0.4, "largest share of the image that a patch covers")
    ratio: Share = param(0.3, "smallest ratio of height to width of a patch")

    def craft(self, victim: Victim, images: Tensor, modality: Modality, context: Context) -> Tensor:
        seeds = stream_seeds(context.seeds, "grey patches")
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        grey, size = grey_images(images), (images.shape[2], images.shape[3])

        def objective(candidate: Tensor) -> Tensor:
            inside = torch.stack([self.patch(size, own) for own in generators])
            with torch.no_grad():
                copies = torch.where(inside[:, None].to(images.device), grey, images)
                guides = victim(copies, modality).embedding
            return squared_distance(victim(candidate, modality).embedding, guides, victim.similarity)

        colourless = (images.amax(1) - images.amin(1)).amax((1, 2)) < _GREY
        noise = context.uniform(images) * colourless.view(-1, 1, 1, 1)
        step_size = self.step_size or 3 * context.threat.epsilon / self.steps
        return ascend(images, images + noise, objective, context.threat, self.steps, step_size, self.momentum)

    def patch(self, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """H x W, true inside one random patch; false everywhere if none of a hundred samples fits."""
        height, width = size
        inside = torch.zeros(height, width, dtype=torch.bool)
        for _ in range(_TRIES):
            area, shape, top, left = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
            area = (self.smallest + area * (self.largest - self.smallest)) * height * width
            shape = self.ratio + shape * (1 / self.ratio - self.ratio)
            tall, wide = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
            if tall < height and wide < width:
                top, left = int(top * (height - tall + 1)), int(left * (width - wide + 1))
                inside[top : top + tall, left : left + wide] = True
                return inside
        return inside
