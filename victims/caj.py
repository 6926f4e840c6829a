"""CAJ: AGW's network, trained jointly on colour images and on channel-exchanged ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vbench.victims.agw import AGW
from vbench.victims.layers.pooling import gem_pool
from vbench.victims.losses.triplet import enhanced_squared_triplet
from vbench.victims.training.batches import exchange_channels
from vbench.victims.training.recipe import Recipe, TrainBatch

#: Shares of red, green, blue, grey and unchanged images in the second visible view and in infrared.
_VISIBLE_SHARES = (1, 1, 1, 0, 0)
_INFRARED_SHARES = (2, 2, 2, 1, 1)


class CAJ(AGW):
    """Channel augmented joint learning of Ye et al., ICCV 2021.

    The network, its options and its released layout are AGW's. The authors' test script averages with the
    mirrored image, so ``flip`` is on by default.
    """

    name: ClassVar[str] = "caj"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "AGW's network trained with channel exchange and a squared triplet loss"
    paper: ClassVar[str] = (
        "Ye et al., Channel Augmented Joint Learning for Visible-Infrared Recognition, ICCV 2021"
    )

    def __init__(
        self,
        *,
        num_classes: int = 395,
        input_size: Sequence[int] = (288, 144),
        width: float = 1.0,
        blocks: Sequence[int] = (3, 4, 6, 3),
        block: str = "bottleneck",
        small_stem: bool = False,
        embedding: str = "neck",
        flip: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            input_size=input_size,
            width=width,
            blocks=blocks,
            block=block,
            small_stem=small_stem,
            embedding=embedding,
            flip=flip,
            generator=generator,
        )

    def training_losses(self, batch: TrainBatch) -> dict[str, Tensor]:
        """Identity cross-entropy and enhanced squared triplet over two visible views and the infrared one.

        The authors' divergence between the predictions of two views has weight 0 in their settings.
        """
        pooled = gem_pool(self.joint_map_of_prepared(*self._exchanged(batch)))
        logits = self.classifier(self.neck(pooled))
        labels = batch.labels.repeat(len(pooled) // len(batch.labels))
        return {
            "identity": F.cross_entropy(logits, labels, label_smoothing=batch.label_smoothing),
            "triplet": enhanced_squared_triplet(pooled, labels),
        }

    def recipe(self) -> Recipe:
        """The published settings at full width, otherwise settings chosen for two CPU cores."""
        if self.width >= 1:
            return replace(super().recipe(), epochs=100, erasing=0.5, visible_views=2)
        return replace(super().recipe(), epochs=14, visible_views=2)

    def _exchanged(self, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        # After normalisation, because then the channels of an infrared image differ and can be exchanged too.
        visible, infrared = self.prepare(batch.visible), self.prepare(batch.infrared)
        count = len(batch.labels)
        second = exchange_channels(visible[count:], _VISIBLE_SHARES, batch.generator)
        return (
            torch.cat((visible[:count], second)),
            exchange_channels(infrared, _INFRARED_SHARES, batch.generator),
        )
