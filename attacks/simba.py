"""SimBA: one orthonormal direction after the other, forward or else back, whatever helps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from vbench.attacks.base import Context
from vbench.attacks.black_box import BlackBoxAttack, Feedback
from vbench.parameters import param
from vbench.types import Modality
from vbench.victims.base import Victim


@dataclass(frozen=True)
class SimBA(BlackBoxAttack):
    """Directions in random order without repetition, each tried with +step and then -step.

    Guo et al., ICML 2019, algorithm 1.

    ``basis`` "dct" takes the lowest ``low`` of the frequencies along each side and each channel (the
    paper's 1/8), "pixel" single values. When every direction was tried, a new order begins. Pixels are kept
    as floats and submitted as the threat model lets them be seen, so that the result is worth what the last
    kept query showed. The paper's step is 0.2 and its allowance 10 000 queries.
    """

    name: ClassVar[str] = "simba"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "black-box: one frequency at a time, guided by embeddings or ranking alone"
    paper: ClassVar[str] = "Guo et al., Simple Black-box Adversarial Attacks, ICML 2019"
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2"})

    queries: Annotated[int, Field(ge=1)] = param(1000, "forward passes an image")
    step: Annotated[float, Field(gt=0)] = param(0.2, "Euclidean length of one change")
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
