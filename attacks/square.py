"""Square Attack: random search with squares at the edge of the budget, no gradients."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from vbench.attacks.base import Context
from vbench.attacks.black_box import BlackBoxAttack, Feedback
from vbench.parameters import param
from vbench.types import Modality
from vbench.victims.base import Victim

#: Shares of the search after which the area of the squares is halved: the authors' iterations of 10 000.
_HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class Square(BlackBoxAttack):
    """Vertical stripes of +-eps, then squares of +-eps a channel, each kept unless it does harm.

    Andriushchenko et al., ECCV 2020, algorithms 1 and 2, except that a change that tells nothing is kept
    too: a ranked list often does not move. ``queries`` is the attacker's allowance rather than a setting of
    the method; the paper allows 10 000, which is hours on a CPU. The area starts at the paper's ``p`` of 0.05
    (ImageNet, L_inf) and is halved on its schedule, scaled to the allowance.
    """

    name: ClassVar[str] = "square"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "black-box: random squares, guided by embeddings or ranking alone"
    paper: ClassVar[str] = "Andriushchenko et al., Square Attack, ECCV 2020"

    queries: Annotated[int, Field(ge=1)] = param(1000, "forward passes an image")
    p: Annotated[float, Field(gt=0, le=1)] = param(0.05, "share of the image that the first squares cover")
    feedback: Feedback = param(
        "embedding", "what a query shows: the embedding, or the ranking of the gallery"
    )
    shown: Annotated[int, Field(ge=1)] = param(20, "gallery images that a ranking shows")

    def craft(self, victim: Victim, images: Tensor, modality: Modality, context: Context) -> Tensor:
        query, best = self.oracle(victim, modality, context)
        eps, (channels, height, width) = context.threat.epsilon, images.shape[1:]
        stripes, draws = self._draws(context.seeds, channels, width)
        stripes, draws = stripes.to(images), draws.to(images)
        current = images
        for turn in range(self.queries):
            if turn == 0:
                candidate = (images + eps * stripes).clamp(0, 1)
            else:
                side = self.side(turn - 1, height, width)
                place, signs = draws[:, turn - 1, :2], draws[:, turn - 1, 2:]
                inside = _window(place, side, height, width)[:, None]
                edge = (images + eps * _sign(signs)[:, :, None, None]).clamp(0, 1)
                candidate = torch.where(inside, edge, current)
            value = query(candidate)
            better = value >= best
            current = torch.where(better.view(-1, 1, 1, 1), candidate, current)
            best = torch.where(better, value, best)
        return current

    def side(self, turn: int, height: int, width: int) -> int:
        """Side in pixels of the square number ``turn`` (from 0)."""
        share = self.p / 2 ** bisect.bisect_left(_HALVINGS, turn / max(self.queries - 1, 1))
        return min(max(round(math.sqrt(share * height * width)), 1), height, width)

    def _draws(self, seeds: tuple[int, ...], channels: int, width: int) -> tuple[Tensor, Tensor]:
        """Signs of the stripes, N x C x 1 x W; for squares N x queries-1 x (2 + C) numbers in [0, 1)."""
        stripes, squares = [], []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            stripes.append(torch.rand(channels, 1, width, generator=generator, dtype=torch.float64))
            shape = (self.queries - 1, 2 + channels)
            squares.append(torch.rand(shape, generator=generator, dtype=torch.float64))
        return _sign(torch.stack(stripes)), torch.stack(squares)


def _sign(draws: Tensor) -> Tensor:
    return torch.where(draws < 0.5, -1.0, 1.0).to(draws)


def _window(place: Tensor, side: int, height: int, width: int) -> Tensor:
    """N x H x W, true inside squares whose corners are N x 2 numbers in [0, 1) of the places there are."""
    room = torch.tensor([height - side + 1, width - side + 1]).to(place)
    # A draw so close to one that its product rounds up would be a place too far.
    corner = torch.minimum((place * room).floor(), room - 1)
    rows, columns = torch.arange(height).to(place), torch.arange(width).to(place)
    down = (rows >= corner[:, :1]) & (rows < corner[:, :1] + side)
    across = (columns >= corner[:, 1:]) & (columns < corner[:, 1:] + side)
    return down[:, :, None] & across[:, None, :]
