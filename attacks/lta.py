"""Local transformation attack: away from the embedding of the image with a grey patch."""

from __future__ import annotations

import math
from collections.abc import Mapping
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

    Gong et al., CVPRW 2022, as in their released code: v(t+1) = ``momentum`` v(t) + g(t) / mean |g(t)|, with
    g(t) the gradient of D(f(x(t)), f(x with a grey patch)) at x(t) and a new patch at every step, and a step
    of sign v(t+1) from the clean image. The patch covers ``smallest`` to ``largest`` of the image, with an
    aspect ratio between ``ratio`` and its inverse; a patch that does not fit is sampled again. The preset
    "paper" has their steps of 1/255 and momentum 1, with ``effort=published`` their fifteen steps.

    An infrared image is grey already, so its copy is the image itself and the gradient at the start is
    exactly zero; the method was published for visible images and does not cover this case. Here such an image
    starts from noise in the whole budget, which makes the attack SMA. The distance is the one the victim
    ranks by; the authors take the mean squared difference of unit-length embeddings.
    """

    name: ClassVar[str] = "lta"
    version: ClassVar[int] = 3
    gradients_per_image: ClassVar[int] = 30
    forwards_per_image: ClassVar[int] = 30
    summary: ClassVar[str] = "away from copies of the image with a patch turned grey"
    paper: ClassVar[str] = (
        "Gong et al., Person Re-identification Method Based on Color Attack and Joint Defence, CVPRW 2022"
    )
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2"})

    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper": {"step_size": "1/255", "start": 0.0, "momentum": 1.0},
        "best": {},
        "v1": {"steps": 15, "reach": 3.0, "start": 0.0, "momentum": 1.0},
    }
    EFFORTS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "standard": {"steps": 30},
        "published": {"steps": 15},
    }

    steps: Annotated[int, Field(ge=1)] = param(30, "gradient steps")
    step_size: Annotated[float, Field(gt=0)] | None = param(
        None, "pixel units; none means that all steps reach some budgets"
    )
    reach: Annotated[float, Field(gt=0)] = param(6.0, "budgets that all steps reach without a step size")
    start: Annotated[float, Field(ge=0, le=1)] = param(1.0, "random start of coloured images, in budgets")
    momentum: Annotated[float, Field(ge=0)] = param(0.0, "share of the past direction that is kept")
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
        scale = torch.where(colourless, 1.0, self.start).to(images)
        start = images + context.uniform(images) * scale.view(-1, 1, 1, 1)
        step_size = self.step_size or self.reach * context.threat.epsilon / self.steps
        return ascend(images, start, objective, context.threat, self.steps, step_size, self.momentum)

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
