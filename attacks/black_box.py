"""Black-box attacks: the feedback of a query, Square and SimBA."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from vbench.attacks.base import Context, PerImageAttack
from vbench.attacks.distances import pairwise_squared, squared_distance
from vbench.core.errors import BadInput
from vbench.core.settings import param
from vbench.core.types import Modality
from vbench.victims.base import Victim

Feedback = Literal["embedding", "ranking"]
Settings = Mapping[str, Mapping[str, object]]

_EFFORTS: Settings = {"standard": {"queries": 1000}, "published": {"queries": 10_000}}


class BlackBoxAttack(PerImageAttack):
    """An attack that uses only queries: ``queries`` forward passes per image, no gradients.

    ``feedback`` "embedding": the attacker sees the embedding of the submitted image and raises its distance
    to the clean one. "ranking": it sees the first ``shown`` gallery images in their order, without distances
    or identities, and lowers the share of the clean list that is still there, after the relevance of QAIR (Li
    et al., CVPR 2021; the discount is ours). That is gallery knowledge; if gallery images are attacked, the
    list is one of queries. The result of the clean image is known beforehand and not counted.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    queries: int
    feedback: Feedback
    shown: int

    @property
    def knowledge(self) -> frozenset[str]:
        return frozenset({"gallery"}) if self.feedback == "ranking" else frozenset()

    def oracle(
        self, victim: Victim, modality: Modality, context: Context
    ) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """A query function (N x 3 x H x W -> N values to raise), and its values for the clean images (N).

        Raises :class:`BadInput` for ``feedback`` "ranking" if the context has no gallery.
        """
        value = (self._distance if self.feedback == "embedding" else self._lost)(victim, context)

        def query(images: Tensor) -> Tensor:
            with torch.no_grad():
                return value(victim(images, modality).embedding)

        return query, value(context.clean)

    def _distance(self, victim: Victim, context: Context) -> Callable[[Tensor], Tensor]:
        return lambda embedding: squared_distance(embedding, context.clean, victim.similarity)

    def _lost(self, victim: Victim, context: Context) -> Callable[[Tensor], Tensor]:
        if context.gallery is None:
            raise BadInput(
                f"attack '{self.name}' with feedback=ranking needs the embeddings of the other side, "
                "and the context holds none"
            )
        gallery = context.gallery.embeddings.to(context.clean)
        count = min(self.shown, len(gallery))

        def seen(embedding: Tensor) -> Tensor:
            distances = pairwise_squared(embedding, gallery, victim.similarity)
            return distances.argsort(dim=1, stable=True)[:, :count]

        before = seen(context.clean)
        weight = 1 / torch.arange(2, count + 2).to(gallery).log2()
        together = weight[:, None] * weight[None, :] / weight.square().sum()

        def lost(embedding: Tensor) -> Tensor:
            kept = before[:, :, None] == seen(embedding)[:, None, :]
            return 1 - (kept * together).sum((1, 2))

        return lost


#: Shares of the search after which the area of the squares is halved: the authors' iterations of 10 000.
_HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class Square(BlackBoxAttack):
    """Vertical stripes of +-eps, then squares of +-eps per channel, each kept unless it lowers the objective.

    Andriushchenko et al., ECCV 2020, algorithms 1 and 2, except that a change that leaves the objective equal
    is kept too, because a ranked list often does not change. ``queries`` is part of the threat model rather
    than of the method; ``effort=published`` is the paper's 10,000, which take hours on a CPU. The share of
    the image that a square covers starts at ``p``, 0.05 in the paper (ImageNet, L_inf), and is halved on its
    schedule, scaled to ``queries``; with a tenth of the queries the squares must be larger.
    """

    name: ClassVar[str] = "square"
    version: ClassVar[int] = 2
    summary: ClassVar[str] = "black-box: random squares, guided by embeddings or ranking alone"
    paper: ClassVar[str] = "Andriushchenko et al., Square Attack, ECCV 2020"
    PRESETS: ClassVar[Settings] = {
        "paper": {"p": 0.05},
        "best": {},
        "v1": {"queries": 1000, "p": 0.05},
    }
    EFFORTS: ClassVar[Settings] = _EFFORTS

    queries: Annotated[int, Field(ge=1)] = param(1000, "forward passes per image")
    p: Annotated[float, Field(gt=0, le=1)] = param(0.8, "share of the image that the first squares cover")
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
    # A random number so close to one that the product rounds up would give a position out of range.
    corner = torch.minimum((place * room).floor(), room - 1)
    rows, columns = torch.arange(height).to(place), torch.arange(width).to(place)
    down = (rows >= corner[:, :1]) & (rows < corner[:, :1] + side)
    across = (columns >= corner[:, 1:]) & (columns < corner[:, 1:] + side)
    return down[:, :, None] & across[:, None, :]


@dataclass(frozen=True)
class SimBA(BlackBoxAttack):
    """Directions in random order without repetition, each tried with +step and then -step.

    Guo et al., ICML 2019, algorithm 1.

    ``basis`` "dct" takes the lowest ``low`` of the frequencies along each side and each channel (the paper's
    1/8), "pixel" single values. When every direction was tried, a new order begins. Pixels are kept as floats
    and submitted as the threat model enforces them (projected, 8-bit), so that the result has the value of
    the last kept query. The preset "paper" has its step of 0.2, ``effort=published`` its 10,000 queries. The
    default step lets a wave fill the budget where its sign is clear, at any usual size of image.
    """

    name: ClassVar[str] = "simba"
    version: ClassVar[int] = 2
    summary: ClassVar[str] = "black-box: one frequency at a time, guided by embeddings or ranking alone"
    paper: ClassVar[str] = "Guo et al., Simple Black-box Adversarial Attacks, ICML 2019"
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2"})
    PRESETS: ClassVar[Settings] = {
        "paper": {"step": 0.2, "basis": "dct", "low": 1 / 8},
        "best": {},
        "v1": {"queries": 1000, "step": 0.2, "basis": "dct", "low": 1 / 8},
    }
    EFFORTS: ClassVar[Settings] = _EFFORTS

    queries: Annotated[int, Field(ge=1)] = param(1000, "forward passes per image")
    step: Annotated[float, Field(gt=0)] = param(4.0, "Euclidean length of one change")
    basis: Literal["dct", "pixel"] = param("dct", "directions: low frequencies, or single pixel values")
    low: Annotated[float, Field(gt=0, le=1)] = param(1 / 8, "share of the frequencies along each side")
    feedback: Feedback = param(
        "embedding", "what a query shows: the embedding, or the ranking of the gallery"
    )
    shown: Annotated[int, Field(ge=1)] = param(20, "gallery images that a ranking shows")

    def craft(self, victim: Victim, images: Tensor, modality: Modality, context: Context) -> Tensor:
        query, best = self.oracle(victim, modality, context)
        rows, columns = self._waves(images.shape[2]).to(images), self._waves(images.shape[3]).to(images)
        shape = (images.shape[1], len(rows), len(columns))
        orders = self._orders(context.seeds, math.prod(shape)).to(images.device)
        everyone = torch.arange(len(images), device=images.device)
        turn, back = torch.zeros_like(everyone), torch.zeros_like(everyone)
        current = images
        for _ in range(self.queries):
            channel, row, column = torch.unravel_index(orders[everyone, turn], shape)
            wave = rows[row][:, :, None] * columns[column][:, None, :]
            change = torch.zeros_like(images)
            change[everyone, channel] = self.step * wave * (1 - 2 * back).to(images).view(-1, 1, 1)
            candidate = context.threat.project(images, current + change)
            value = query(context.threat.enforce(images, candidate))
            better = value >= best
            current = torch.where(better.view(-1, 1, 1, 1), candidate, current)
            best = torch.where(better, value, best)
            done = better | (back == 1)
            turn, back = turn + done, torch.where(done, 0, 1)
        return current

    def _waves(self, length: int) -> Tensor:
        """The basis along one side, a row each: lowest frequencies of the DCT-II, or single pixels."""
        if self.basis == "pixel":
            return torch.eye(length, dtype=torch.float64)
        count = max(1, round(self.low * length))
        place = torch.arange(length, dtype=torch.float64) + 0.5
        frequency = torch.arange(count, dtype=torch.float64)
        waves = (math.pi / length * frequency[:, None] * place).cos() * math.sqrt(2 / length)
        waves[0] /= math.sqrt(2)
        return waves

    def _orders(self, seeds: tuple[int, ...], directions: int) -> Tensor:
        """N x queries indices of directions; one more row of an order than queries is never needed."""
        orders = []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            rounds = math.ceil(self.queries / directions)
            found = [torch.randperm(directions, generator=generator) for _ in range(rounds)]
            orders.append(torch.cat(found)[: self.queries])
        return torch.stack(orders)
