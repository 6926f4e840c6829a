"""DEEN: two-stream ResNet-50 with multistage aggregation, whose last stage sees three versions of a map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.victims.layers import BRANCHES, EmbeddingExpansion, FeatureAggregation, l2_normalise
from vbench.victims.losses import Pair, batch_hard_triplet, center_pair_mining, orthogonality
from vbench.victims.released import ReleasedLayout
from vbench.victims.staged import (
    TRUNK_RENAMES,
    TRUNK_TWINS,
    Parts,
    TwoStreamVictim,
    weighted_concatenation,
)
from vbench.victims.training.batches import drop_elements, exchange_channels, generator_on
from vbench.victims.training.recipe import (
    PUBLISHED_TWO_STREAM,
    THIN_RESIDUAL,
    Recipe,
    TrainBatch,
)

#: Stages with an aggregation block and their strides; the stage after them takes the expanded maps.
_AGGREGATED = {"sysu": {"layer1": 1, "layer2": 2, "layer3": 2}, "regdb": {"layer1": 1, "layer2": 2}}
_VERSIONS = ("original", "first", "second")
_POOLED, _NECK = ([f"{kind}_{version}" for version in _VERSIONS] for kind in ("pooled", "neck"))
#: Weight of each vector's dot product in a fused ranking.
_FUSED: dict[str, dict[str, float]] = {
    "sum": dict.fromkeys((*_POOLED, *_NECK), 1.0),
    "weighted": {**dict.fromkeys(_POOLED, 0.1), **dict.fromkeys(_NECK, 0.9)},
}
_EMBEDDINGS = (*_FUSED, *_POOLED, *_NECK)
_MARGIN = 0.3
_PAIR_MINING_WEIGHT = 0.8
_ORTHOGONALITY_WEIGHT = 0.01
_DROPOUT = 0.01
#: Shares of single channels, grey and unchanged images: every second visible training image is grey.
_GREY = (0, 0, 0, 1, 1)


@dataclass(kw_only=True, eq=False, repr=False)
class DEEN(TwoStreamVictim):
    """The diverse embedding expansion network of Zhang et al., CVPR 2023.

    ``width=1.0`` with default ``blocks`` is the authors' network, ``variant`` "sysu" (also for LLCM: four
    stages, three with aggregation) or "regdb" (three stages, two with aggregation). The last stage gets every
    image's map in three versions, the original and two generated ones; each gives a vector before and one
    after the neck. ``embedding``: "sum" ranks by the plain sum of the six dot products (the default: the
    authors select their checkpoint by it), "weighted" by 0.1 times those before the neck plus 0.9 times those
    after it, and "pooled_original", "pooled_first", "pooled_second", "neck_original", "neck_first",
    "neck_second" by one alone. With ``flip`` (the default) each vector is the sum of those of the image and
    its mirror, not normalised to unit length. ``generator`` samples the initial weights; without one they
    come from a fixed seed.

    Edits and features of the last stage have the versions' maps concatenated along the channels. Logits are
    the mean over the versions, which the identity loss trains equally.
    """

    name, version = "deen", 1
    summary = "two-stream ResNet-50 with multistage aggregation and diverse embedding expansion"
    paper = (
        "Zhang and Wang, Diverse Embedding Expansion Network and Low-Light Cross-Modality Benchmark for "
        "Visible-Infrared Person Re-identification, CVPR 2023"
    )
    similarity = "dot"
    released = ReleasedLayout(
        renames=(
            *TRUNK_RENAMES,
            *(
                (rf"^aggregation\.layer(\d)\.{own}\.{ours}\.", rf"MFA\1.{theirs}.{stored}.")
                for own, theirs in (("channel", "CNL"), ("position", "PNL"))
                for ours, stored in (("project", "W.0"), ("norm", "W.1"))
            ),
            (r"^aggregation\.layer(\d)\.channel\.", r"MFA\1.CNL."),
            (r"^aggregation\.layer(\d)\.position\.", r"MFA\1.PNL."),
            *(
                (rf"^expansion\.branches\.{branch}\.{ours}\.", f"DEE.FC{branch + 1}{theirs}.")
                for branch in range(BRANCHES)
                for ours, theirs in (
                    (r"dilated\.0", 1),
                    (r"dilated\.1", 2),
                    (r"dilated\.2", 3),
                    ("project", ""),
                )
            ),
            (r"^neck\.", "bottleneck."),
        ),
        twins=TRUNK_TWINS,
        left_out=(r"\.layer4\.",),
        marks=("DEE.FC11.weight", "MFA1.CNL.theta.weight"),
    )
    embeddings = _EMBEDDINGS
    #: The authors' "step" of 0.001 from epoch 120 is never reached: their condition for epoch 80 comes first.
    full_recipe = replace(
        PUBLISHED_TWO_STREAM,
        epochs=151,
        identities=6,
        milestones=(20, 80),
        erasing=0.5,
        erasing_area=(0.2, 0.8),
    )
    thin_recipe = replace(THIN_RESIDUAL, epochs=14, warmup_epochs=3)
    input_size: tuple[int, int] = (384, 144)
    embedding: str = "sum"
    flip: bool = True
    variant: str = "sysu"

    def __post_init__(self, generator: torch.Generator | None) -> None:
        self._check_choice("variant", _AGGREGATED)
        self.stages = type(self).stages[: len(_AGGREGATED[self.variant]) + 2]
        super().__post_init__(generator)
        for module in self.modules():
            if isinstance(module, FeatureAggregation):
                module.start_as_identity()

    def _check_positions(self) -> None:
        scale = 2 if self.small_stem else 4
        for stride in (1, *_AGGREGATED[self.variant].values()):
            scale *= stride
            rows, columns = (-(-side // scale) for side in self.input_size)
            if rows * columns % 2:
                problem = f"input_size leaves a map of {rows} x {columns} positions, an odd number"
                raise BadInput(f"{self.name}: {problem}; use a height that is a multiple of 32")

    def _build(self) -> None:
        self._check_positions()
        super()._build()
        channels, aggregated = self.trunk.channels, _AGGREGATED[self.variant]
        self.aggregation = nn.ModuleDict(
            {
                stage: FeatureAggregation(channels[stage], channels[before], aggregated[stage])
                for before, stage in zip(self.stages, aggregated, strict=False)
            }
        )
        self.expansion = EmbeddingExpansion(channels[self.stages[-2]])
        dim = channels[self.stages[-1]]
        self.embedding_dim = dim * len(_FUSED.get(self.embedding, (self.embedding,)))
        self._add_classifier(dim)

    @classmethod
    def released_options(cls, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """The variant: only that of SYSU-MM01 and LLCM has a third aggregation block."""
        return {"variant": "sysu" if any(name.startswith("MFA3.") for name in state) else "regdb"}

    def shared_stage(self, stage: str, current: Tensor) -> Tensor:
        """A residual stage with its aggregation block; the last one takes expanded maps."""
        if stage == self.stages[-1]:
            return self.trunk.stage(stage, self.expansion(current))
        return self.aggregation[stage](self.trunk.stage(stage, current), current)

    def head(self, current: Tensor, count: int) -> tuple[Parts, Tensor]:
        """Six vectors at unit length, before and after the neck of every version, and mean logits."""
        pooled = current.mean(dim=(2, 3))
        neck = self.neck(pooled)
        vectors = (*l2_normalise(pooled).split(count), *l2_normalise(neck).split(count))
        logits = self.classifier(neck).unflatten(0, (len(_VERSIONS), count)).mean(dim=0)
        return dict(zip((*_POOLED, *_NECK), vectors, strict=True)), logits

    def merge_mirrored(self, part: Tensor, mirrored: Tensor) -> Tensor:
        """Their sum, as the authors' script has it."""
        return part + mirrored

    def compose(self, parts: Parts) -> Tensor:
        """One vector, or all six so that their dot product is the fused similarity."""
        if self.embedding in _FUSED:
            return weighted_concatenation(parts, _FUSED[self.embedding])
        return parts[self.embedding]

    def training_losses(self, batch: TrainBatch) -> dict[str, Tensor]:
        """Identity and hardest triplet over all versions, mining of generated ones, orthogonality."""
        pooled = self._training_map(batch).mean(dim=(2, 3))
        logits = self.classifier(self.neck(pooled))
        labels = batch.labels.repeat(2 * len(_VERSIONS))
        original, first, second = (_by_modality(version) for version in pooled.chunk(len(_VERSIONS)))
        mined = [center_pair_mining(original, new, batch.labels) for new in (first, second)]
        return {
            "identity": F.cross_entropy(logits, labels, label_smoothing=batch.label_smoothing),
            "triplet": batch_hard_triplet(pooled, labels, _MARGIN),
            "pair_mining": _PAIR_MINING_WEIGHT * torch.stack(mined).sum(),
            "orthogonality": _ORTHOGONALITY_WEIGHT * orthogonality(torch.cat(first), torch.cat(second)),
        }

    def recipe(self) -> Recipe:
        """The published settings at full width, otherwise settings chosen for two CPU cores."""
        found = super().recipe()
        return found if self.width < 1 or self.variant == "sysu" else replace(found, erasing_area=(0.02, 0.4))

    def _training_map(self, batch: TrainBatch) -> Tensor:
        grey = exchange_channels(batch.visible, _GREY, batch.generator)
        pair = ((grey, Modality.VISIBLE), (batch.infrared, Modality.INFRARED))
        current = torch.cat([self.run_stage("stem", self.prepare(images), which) for images, which in pair])
        for stage in self.stages[1:-1]:
            current = self.shared_stage(stage, current)
        expanded = self.expansion(current)
        draws = generator_on(expanded.device, batch.generator)
        return self.trunk.stage(self.stages[-1], drop_elements(expanded, _DROPOUT, draws))


def _by_modality(rows: Tensor) -> Pair:
    visible, infrared = rows.chunk(2)
    return visible, infrared
