"""What an attacker without gradients learns from a query: an embedding, or a ranked list."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vbench.attacks.base import Context, PerImageAttack
from vbench.attacks.distances import pairwise_squared, squared_distance
from vbench.errors import BadInput
from vbench.types import Modality
from vbench.victims.base import Victim

Feedback = Literal["embedding", "ranking"]


class BlackBoxAttack(PerImageAttack):
    """An attack that only queries: ``queries`` forward passes an image, never a gradient.

    ``feedback`` "embedding": the attacker sees the embedding of what it submits and raises its distance to
    the clean one. "ranking": it sees the first ``shown`` gallery images in their order, neither distances
    nor identities, and lowers how much of the clean list is still there, after the relevance of QAIR (Li et
    al., CVPR 2021; the discount is ours). That is gallery knowledge; where gallery images are
    attacked, the list is one of queries. What the clean image itself yields is known beforehand and not
    counted.
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
        """A query (N x 3 x H x W -> N values to raise), and what the clean images yield (N).

        Raises :class:`BadInput` when a ranking is asked for and the context holds nothing to rank.
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
