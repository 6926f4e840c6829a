"""MRCN: two-stream ResNet-50 with instance normalisation, modality restitution and compensation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vbench.core.types import Modality
from vbench.victims.layers import Disentangled, ModalityRestitution, l2_normalise
from vbench.victims.losses import Pair, batch_hard_triplet, causal_separation, center_quadruplet, widen
from vbench.victims.mmn import MMN
from vbench.victims.staged import Parts, TwoStreamVictim
from vbench.victims.training.recipe import (
    THIN_RESIDUAL,
    TrainBatch,
)

_PLACES = ("stem", "layer1", "layer2", "layer3")
_MARGIN = 0.3


@dataclass(kw_only=True, eq=False, repr=False)
class MRCN(TwoStreamVictim):
    """The modality restitution and compensation network of Zhang et al., AAAI 2023 (arXiv 2303.14626).

    Its code is not public. From the paper: a two-stream ResNet-50; two instance normalisations, whose removed
    information a restitution module (modality-irrelevant features, given back to the own modality) and a
    compensation module (modality-relevant features, given to the other modality) distil; a center-quadruplet
    causal loss that separates the two kinds of features; ranking of one embedding per image.

    Our interpretation where the paper's text was not available: one normalisation for each modality, after
    the stage ``place``; channel gates shared by both modalities, as in Jin et al., CVPR 2020, whose
    restitution the paper builds on; compensation in training only, since it needs a paired image of the other
    modality, with compensated maps sent through the remaining stages as further training images; the two
    parts of the causal loss (see :mod:`vbench.victims.losses`) and their weights of 1; average
    pooling, neck, 384 x 192 pixels, identity and triplet losses and the recipe as in MMN of the same authors.

    ``embedding`` picks what is ranked, L2-normalised: "neck" (after batch normalisation) or "pooled".
    ``flip`` averages with the mirrored image. ``generator`` samples the initial weights; without one they
    come from a fixed seed.
    """

    name, version = "mrcn", 1
    summary = "two-stream ResNet-50 with instance normalisation, restitution and compensation"
    paper = (
        "Zhang et al., MRCN: A Novel Modality Restitution and Compensation Network for Visible-Infrared "
        "Person Re-identification, AAAI 2023"
    )

    #: The public settings of the same authors for MMN, because MRCN's code is not public.
    full_recipe = replace(MMN.full_recipe, head=("restitution", "neck", "classifier"))
    thin_recipe = replace(THIN_RESIDUAL, epochs=16, warmup_epochs=3)
    input_size: tuple[int, int] = (384, 192)
    place: str = "layer2"

    def __post_init__(self, generator: torch.Generator | None) -> None:
        self._check_choice("place", _PLACES)
        # Instance normalisation cannot be trained on a map of a single position.
        self._least_side = 32 if self.place == "layer3" and not self.small_stem else 16
        super().__post_init__(generator)

    def _build(self) -> None:
        super()._build()
        self.restitution = ModalityRestitution(self.trunk.channels[self.place])
        self.embedding_dim = self.trunk.channels["layer4"]
        self._add_classifier(self.embedding_dim)

    def run_stage(self, stage: str, current: Tensor, modality: Modality) -> Tensor:
        """The modality's stem or a shared stage; at ``place`` its map is normalised and restituted."""
        current = super().run_stage(stage, current, modality)
        return self.restitution(current, modality) if stage == self.place else current

    def head(self, current: Tensor, count: int) -> tuple[Parts, Tensor]:
        """The average of the last map and the same after the neck, both of unit length."""
        pooled = current.mean(dim=(2, 3))
        neck = self.neck(pooled)
        return {"neck": l2_normalise(neck), "pooled": l2_normalise(pooled)}, self.classifier(neck)

    def training_losses(self, batch: TrainBatch) -> dict[str, Tensor]:
        """Identity, triplet, center quadruplet and causal separation of a paired batch."""
        versions = self._disentangled(batch.visible, batch.infrared)
        current = torch.cat((*versions.restituted, *versions.compensated))
        for stage in self.stages[self.stages.index(self.place) + 1 :]:
            current = self.shared_stage(stage, current)
        pooled = current.mean(dim=(2, 3))
        four = pooled.chunk(4)
        logits = widen(self.classifier(self.neck(pooled)))
        return {
            "identity": F.cross_entropy(
                logits, batch.labels.repeat(4), label_smoothing=batch.label_smoothing
            ),
            "triplet": batch_hard_triplet(torch.cat(four[:2]), batch.labels.repeat(2), _MARGIN),
            "center_quadruplet": center_quadruplet(four, batch.labels, _MARGIN),
            "causal_separation": causal_separation(
                _averages(versions.normalised),
                _averages(versions.restituted),
                _averages(versions.tainted),
                batch.labels,
            ),
        }

    def _disentangled(self, visible: Tensor, infrared: Tensor) -> Disentangled:
        pair = self.prepare(visible), self.prepare(infrared)
        modalities = (Modality.VISIBLE, Modality.INFRARED)
        current = torch.cat([self.trunk.stem(x, m) for x, m in zip(pair, modalities, strict=True)])
        for stage in self.stages[1 : self.stages.index(self.place) + 1]:
            current = self.shared_stage(stage, current)
        return self.restitution.disentangle(*current.chunk(2))


def _averages(pair: Pair) -> Pair:
    # Rectified, because the mean of an instance-normalised map is the same for every image.
    visible, infrared = (F.relu(features).mean(dim=(2, 3)) for features in pair)
    return visible, infrared
