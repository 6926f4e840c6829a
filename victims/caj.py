"""CAJ: AGW's network, trained jointly on colour images and on channel-exchanged ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vbench.victims.agw import AGW
from vbench.victims.layers import gem_pool
from vbench.victims.losses import enhanced_squared_triplet
from vbench.victims.training.batches import exchange_channels
from vbench.victims.training.recipe import PUBLISHED_TWO_STREAM, THIN_RESIDUAL, TrainBatch

#: Shares of red, green, blue, grey and unchanged images in the second visible view and in infrared.
_VISIBLE_SHARES = (1, 1, 1, 0, 0)
_INFRARED_SHARES = (2, 2, 2, 1, 1)


@dataclass(kw_only=True, eq=False, repr=False)
class CAJ(AGW):
    """Channel augmented joint learning of Ye et al., ICCV 2021.

    The network, its options and its released layout are AGW's. The authors' test script averages with the
    mirrored image, so ``flip`` is on by default.
    """

    name, version = "caj", 1
    summary = "AGW's network trained with channel exchange and a squared triplet loss"
    paper = "Ye et al., Channel Augmented Joint Learning for Visible-Infrared Recognition, ICCV 2021"

    full_recipe = replace(PUBLISHED_TWO_STREAM, epochs=100, erasing=0.5, visible_views=2)
    thin_recipe = replace(THIN_RESIDUAL, epochs=14, visible_views=2)
    flip: bool = True

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

    def _exchanged(self, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        # After normalisation, because then the channels of an infrared image differ and can be exchanged too.
        visible, infrared = self.prepare(batch.visible), self.prepare(batch.infrared)
        count = len(batch.labels)
        second = exchange_channels(visible[count:], _VISIBLE_SHARES, batch.generator)
        return (
            torch.cat((visible[:count], second)),
            exchange_channels(infrared, _INFRARED_SHARES, batch.generator),
        )
