"""Input diversity: every step looks at the image a little smaller and elsewhere (Xie et al., CVPR 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad


class InputDiversity:
    """A view of N x 3 x H x W images, each shrunk at random and padded back to H x W with zeros.

    With probability ``chance`` an image's height becomes a whole number drawn from [``rate`` H, H), its
    width follows in proportion, and the place in the frame is drawn; else it stays as it is. The paper
    enlarges 299 pixels to at most 330; shrinking by the same share keeps the victim's input size. Every
    image draws from its own seed, two sizes and a place a call, so that neither its batch nor the other
    images' luck matters. That is why the transform of torchattacks is not used here: it draws once for the
    whole batch, from the global state, and makes a tall image square.
    """

    def __init__(self, seeds: Sequence[int], chance: float, rate: float) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._chance = chance
        self._rate = rate

    def __call__(self, images: Tensor) -> Tensor:
        """The views of this call, N x 3 x H x W; differentiable."""
        views = [self._view(image, draws) for image, draws in zip(images, self._draws(), strict=True)]
        return torch.stack(views)

    def _draws(self) -> list[list[float]]:
        rows = [torch.rand(4, generator=own, dtype=torch.float64) for own in self._generators]
        return [row.tolist() for row in rows]

    def _view(self, image: Tensor, draws: list[float]) -> Tensor:
        applied, size, top, left = draws
        height, width = image.shape[1:]
        smallest = max(1, int(self._rate * height))
        if applied >= self._chance or smallest >= height:
            return image
        tall = smallest + int(size * (height - smallest))
        wide = max(1, round(tall * width / height))
        above, before = int(top * (height - tall + 1)), int(left * (width - wide + 1))
        small = interpolate(image[None], (tall, wide), mode="bilinear", align_corners=False)[0]
        return pad(small, (before, width - wide - before, above, height - tall - above))
