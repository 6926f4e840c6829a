"""MPANet: one ResNet-50 for both modalities, with modality alleviation and pattern masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.victims.layers import (
    ModalityAlleviation,
    PatternParts,
    ResidualStages,
    mask_overlap,
    masked_vectors,
)
from vbench.victims.losses import MutualClassifiers, center_cluster, widen
from vbench.victims.released import ReleasedLayout
from vbench.victims.staged import Parts, ResidualVictim
from vbench.victims.training.recipe import (
    PUBLISHED_TWO_STREAM,
    THIN_RESIDUAL,
    Recipe,
    TrainBatch,
)

#: Variant -> input size and how the authors' evaluation compares embeddings.
_VARIANTS = {"sysu": ((384, 128), "cosine"), "regdb": ((256, 128), "euclidean")}
_REGDB_CLASSES = 206
_ALLEVIATED = ("layer3", "layer4")

_MARGIN = 0.7
_OVERLAP_WEIGHT = 0.5
#: The released code adds this loss twice, each time with weight 0.5; so do the published results.
_MODALITY_WEIGHT = 1.0
_MUTUAL_WEIGHT = 2.5
_FOLLOW_RATE = 0.2
#: The running means slow down from this epoch on.
_SLOWING_EPOCH = 100

_FULL_RECIPE = replace(
    PUBLISHED_TWO_STREAM,
    epochs=140,
    identities=16,
    optimizer="adam",
    learning_rate=3.5e-4,
    warmup_epochs=0,
    milestones=(80, 120),
    head=(),
    trunk_rate=1.0,
    erasing=0.5,
    erasing_area=(0.02, 0.33),
)
_REGDB_RECIPE = replace(_FULL_RECIPE, identities=12, instances=5, milestones=(110,))


@dataclass(kw_only=True, eq=False, repr=False)
class MPANet(ResidualVictim):
    """The joint modality and pattern alignment network of Wu et al., CVPR 2021.

    One network embeds both modalities; ``width=1.0`` with default ``blocks`` is the authors'. ``variant``
    "sysu" or "regdb" determines the size of images unless ``input_size`` is given, how embeddings are
    compared (cosine, or Euclidean distance of unnormalised vectors) and the published recipe. ``parts`` is
    the number of pattern masks. What is ranked is ``parts`` masked vectors and the average of the map, in
    this order, after batch normalisation ("neck", the authors' choice) or before ("pooled"); neither is
    L2-normalised. ``flip`` averages with the mirrored image. ``generator`` samples the initial weights;
    without one they come from a fixed seed.
    """

    name, version = "mpanet", 1
    summary = "single-stream ResNet-50 with modality alleviation and pattern masks"
    paper = (
        "Wu et al., Discover Cross-Modality Nuances for Visible-Infrared Person Re-Identification, CVPR 2021"
    )
    resize_filter = "bilinear"
    released = ReleasedLayout(
        renames=(
            (r"^trunk\.stem\.", "backbone."),
            (r"^trunk\.", "backbone."),
            (r"^alleviation\.layer(\d)\.gate\.squeeze\.", r"backbone.MAM\1.channel_attention.0."),
            (r"^alleviation\.layer(\d)\.gate\.excite\.", r"backbone.MAM\1.channel_attention.2."),
            (r"^patterns\.attend\.", "spatial_attention."),
            (r"^mutual\.(visible|infrared)_mean\.", r"\1_classifier_."),
            (r"^mutual\.(visible|infrared)\.", r"\1_classifier."),
            (r"^neck\.", "bn_neck."),
        ),
        marks=("backbone.MAM4.channel_attention.0.weight", "spatial_attention.weight", "bn_neck.weight"),
    )
    full_recipe = _FULL_RECIPE
    thin_recipe = replace(THIN_RESIDUAL, epochs=16, warmup_epochs=3)
    input_size: tuple[int, int] = None  # type: ignore[assignment]  # that of the variant
    variant: str = "sysu"
    parts: int = 6

    def __post_init__(self, generator: torch.Generator | None) -> None:
        self._check_choice("variant", _VARIANTS)
        published_size, self.similarity = _VARIANTS[self.variant]
        self.input_size = self.input_size or published_size
        # Instance normalisation cannot be trained on a map of a single position.
        self._least_side = 16 if self.small_stem else 32
        if self.parts < 2:
            raise BadInput(f"{self.name}: parts must be at least 2, got {self.parts}")
        self.parts = int(self.parts)
        super().__post_init__(generator)
        self.mutual.restart()

    def _build(self) -> None:
        self.trunk = ResidualStages(
            self.width, self.blocks, self.block, stems=("stem",), small_stem=self.small_stem
        )
        channels = self.trunk.channels
        self.alleviation = nn.ModuleDict(
            {stage: ModalityAlleviation(channels[stage]) for stage in _ALLEVIATED}
        )
        self.patterns = PatternParts(channels["layer4"], self.parts)
        self.embedding_dim = (self.parts + 1) * channels["layer4"]
        self._add_classifier(self.embedding_dim)
        self.mutual = MutualClassifiers(self.embedding_dim, self.num_classes)

    @classmethod
    def released_options(cls, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """The number of masks, and the variant from the number of identities: RegDB's splits have 206."""
        attend, classifier = state.get("spatial_attention.weight"), state.get("classifier.weight")
        options: dict[str, Any] = {} if attend is None else {"parts": len(attend)}
        if classifier is not None:
            options["variant"] = "regdb" if len(classifier) == _REGDB_CLASSES else "sysu"
        return options

    def run_stage(self, stage: str, current: Tensor, modality: Modality) -> Tensor:
        """The stem, or a residual stage with its modality alleviation; both modalities share them."""
        if stage == "stem":
            return self.trunk.get_submodule("stem")(current)
        current = self.trunk.stage(stage, current)
        return self.alleviation[stage](current) if stage in self.alleviation else current

    def head(self, current: Tensor, count: int) -> tuple[Parts, Tensor]:
        """Masked and average vectors, concatenated, after and before the neck."""
        pooled = masked_vectors(current, self.patterns(current))
        neck = self.neck(pooled)
        return {"neck": neck, "pooled": pooled}, self.classifier(neck)

    def merge_mirrored(self, part: Tensor, mirrored: Tensor) -> Tensor:
        """The mean, because vectors do not have unit length here."""
        return (part + mirrored) / 2

    def training_losses(self, batch: TrainBatch) -> dict[str, Tensor]:
        """Identity, center cluster, mask overlap, identity by modality, and agreement of modalities.

        Also updates the running means of the modality classifiers.
        """
        current = self.last_map(torch.cat((batch.visible, batch.infrared)), Modality.VISIBLE)
        masks = self.patterns(current)
        pooled = masked_vectors(current, masks)
        neck = self.neck(pooled)
        both = torch.cat((batch.labels, batch.labels))
        self.mutual.follow(_FOLLOW_RATE * min(1.0, _SLOWING_EPOCH / (batch.epoch + 2)))
        visible, infrared = neck.chunk(2)
        by_modality, mutual = self.mutual.losses(visible, infrared, batch.labels, batch.label_smoothing)
        identity = F.cross_entropy(widen(self.classifier(neck)), both, label_smoothing=batch.label_smoothing)
        return {
            "identity": identity,
            "center_cluster": center_cluster(pooled, both, _MARGIN),
            "mask_overlap": _OVERLAP_WEIGHT * mask_overlap(masks),
            "modality_identity": _MODALITY_WEIGHT * by_modality,
            "mutual": _MUTUAL_WEIGHT * mutual,
        }

    def recipe(self) -> Recipe:
        """The published settings at full width, otherwise settings chosen for two CPU cores."""
        return _REGDB_RECIPE if self.width >= 1 and self.variant == "regdb" else super().recipe()
