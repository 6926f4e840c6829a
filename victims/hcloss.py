"""HCLoss: a ResNet-50 for each modality, six stripes, and the hetero-center loss between the modalities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.victims.layers import ResidualStages, l2_normalise
from vbench.victims.losses import hetero_center
from vbench.victims.pretrained import fill_residual
from vbench.victims.released import ReleasedLayout
from vbench.victims.staged import Parts, ResidualVictim
from vbench.victims.training.recipe import (
    PUBLISHED_TWO_STREAM,
    THIN_RESIDUAL,
    THIN_RESIDUAL_OPTIONS,
    TrainBatch,
)

_STRIPES = 6
_CENTER_WEIGHT = 0.5
_SLOPE = 0.1


class Reduction(nn.Linear):
    """The linear layer of a stripe, with the authors' initial weights."""

    def draw_weights(self, generator: torch.Generator) -> None:
        """Sample the weights; the shift starts at zero."""
        nn.init.kaiming_normal_(self.weight, mode="fan_out", generator=generator)
        nn.init.zeros_(self.bias)


def stripes(current: Tensor) -> Tensor:
    """Averages of six horizontal stripes of an N x C x h x w map, N x C x 6.

    Stripes begin h // 6 rows apart and are as high as what is left for the last one, so they overlap where h
    is no multiple of 6; below 6 rows each is the whole map.
    """
    rows = current.mean(dim=3)
    step = rows.shape[2] // _STRIPES
    height = rows.shape[2] - step * (_STRIPES - 1)
    return torch.stack([rows[:, :, n * step : n * step + height].mean(dim=2) for n in range(_STRIPES)], dim=2)


def joined(vectors: Iterable[Tensor]) -> Tensor:
    """N x D vectors, each brought to unit length, one after another."""
    return torch.cat([l2_normalise(vector) for vector in vectors], dim=1)


@dataclass(kw_only=True, eq=False, repr=False)
class HCLoss(ResidualVictim):
    """The two-stream network of Zhu et al., Neurocomputing 2020, trained with the hetero-center loss.

    Each modality has a ResNet-50 of its own; what they share are, for each of six horizontal stripes, a
    linear layer to ``dim`` numbers with batch normalisation, and a classifier. ``width=1.0`` with default
    ``blocks`` and ``dim`` is the authors' network. What is ranked is the six vectors, each at unit length,
    one after another: after those layers ("local", the authors' choice) or before ("pooled"). Logits are the
    mean of those of the six classifiers, which the authors train one by one and do not use at test. ``flip``
    averages with the mirrored image. ``generator`` samples the initial weights; without one they come from a
    fixed seed.
    """

    name, version = "hcloss", 1
    summary = "a ResNet-50 for each modality, six stripes, hetero-center loss"
    paper = "Zhu et al., Hetero-Center Loss for Cross-Modality Person Re-Identification, Neurocomputing 2020"
    released = ReleasedLayout(
        renames=(
            (r"^visible\.(?:stem\.)?", "visible_net.visible."),
            (r"^infrared\.(?:stem\.)?", "thermal_net.thermal."),
            (r"^reduce\.(\d)\.", r"feature\1.feat_block."),
            (r"^classifiers\.(\d)\.", r"classifier\1.classifier.1."),
        ),
        unused=(r"^(?:visible_net\.visible|thermal_net\.thermal)\.fc\.",),
        classifier="classifiers.1.weight",
        marks=("visible_net.visible.layer4.0.conv1.weight", "feature6.feat_block.0.weight"),
    )
    # Of the code's 61 epochs at a tenth of the rate after 30; the last, at a hundredth, is the 61st.
    full_recipe = replace(
        PUBLISHED_TWO_STREAM,
        epochs=61,
        identities=4,
        instances=8,
        learning_rate=0.01,
        warmup_epochs=0,
        milestones=(30, 60),
        head=("reduce", "classifiers"),
        padding=0,
    )
    thin_recipe = replace(
        THIN_RESIDUAL, learning_rate=3e-3, warmup_epochs=2, label_smoothing=0.0, erasing=0.0
    )
    THIN: ClassVar[dict[str, Any]] = {**THIN_RESIDUAL_OPTIONS, "dim": 64}

    embeddings = ("local", "pooled")
    dim: int = 512
    embedding: str = "local"

    def __post_init__(self, generator: torch.Generator | None) -> None:
        self.dim = int(self.dim)
        if self.dim < 1:
            raise BadInput(f"{self.name}: dim must be at least 1, got {self.dim}")
        super().__post_init__(generator)

    def _build(self) -> None:
        self.visible, self.infrared = (
            ResidualStages(self.width, self.blocks, self.block, stems=("stem",), small_stem=self.small_stem)
            for _ in Modality
        )
        channels = self.visible.channels["layer4"]
        numbers = [str(n + 1) for n in range(_STRIPES)]
        self.reduce = nn.ModuleDict(
            {n: nn.Sequential(Reduction(channels, self.dim), nn.BatchNorm1d(self.dim)) for n in numbers}
        )
        self.classifiers = nn.ModuleDict({n: nn.Linear(self.dim, self.num_classes) for n in numbers})
        self.embedding_dim = _STRIPES * (self.dim if self.embedding == "local" else channels)

    @classmethod
    def released_options(cls, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """The numbers of a stripe's vector."""
        weight = state.get("feature1.feat_block.0.weight")
        return {} if weight is None else {"dim": len(weight)}

    def start_from(self, state: Mapping[str, Tensor], where: str) -> None:
        """Fill both networks from one ResNet-50."""
        for trunk in (self.visible, self.infrared):
            fill_residual(trunk, state, where)

    def run_stage(self, stage: str, current: Tensor, modality: Modality) -> Tensor:
        """A stage of the modality's own network."""
        trunk = self.visible if modality is Modality.VISIBLE else self.infrared
        return trunk.get_submodule("stem")(current) if stage == "stem" else trunk.stage(stage, current)

    def head(self, current: Tensor, count: int) -> tuple[Parts, Tensor]:
        """Both kinds of six vectors at unit length, one after another; the mean of the six logits."""
        pooled = stripes(current).unbind(2)
        local = self._local(pooled)
        parts = {"local": joined(local), "pooled": joined(pooled)}
        return parts, torch.stack(self._logits(local)).mean(dim=0)

    def merge_mirrored(self, part: Tensor, mirrored: Tensor) -> Tensor:
        """The mean of the two, each stripe at unit length."""
        return joined(((part + mirrored) / 2).chunk(_STRIPES, dim=1))

    def training_losses(self, batch: TrainBatch) -> dict[str, Tensor]:
        """Identity cross-entropy and hetero-center loss, each the sum over stripes.

        A thin network starts from random weights, not from ImageNet's: with this loss from the start its
        vectors collapse and nothing is learnt. There its weight is 0 in the first half of the training and
        then rises to the published one.
        """
        visible = stripes(self.last_map(batch.visible, Modality.VISIBLE))
        infrared = stripes(self.last_map(batch.infrared, Modality.INFRARED))
        local = self._local(torch.cat((visible, infrared)).unbind(2))
        both = torch.cat((batch.labels, batch.labels))
        identity = [
            F.cross_entropy(logits, both, label_smoothing=batch.label_smoothing)
            for logits in self._logits(local)
        ]
        pairs = [l2_normalise(vectors).chunk(2) for vectors in local]
        centers = [hetero_center(first, second, batch.labels) for first, second in pairs]
        return {
            "identity": torch.stack(identity).sum(),
            "hetero_center": self._center_weight(batch) * torch.stack(centers).sum(),
        }

    def _center_weight(self, batch: TrainBatch) -> float:
        risen = 1.0 if self.width >= 1 else max(0.0, 2 * (batch.epoch + 1) / batch.epochs - 1)
        return _CENTER_WEIGHT * risen

    def _local(self, pooled: tuple[Tensor, ...]) -> list[Tensor]:
        return [layer(vector) for layer, vector in zip(self.reduce.values(), pooled, strict=True)]

    def _logits(self, local: list[Tensor]) -> list[Tensor]:
        return [
            layer(F.leaky_relu(vector, _SLOPE))
            for layer, vector in zip(self.classifiers.values(), local, strict=True)
        ]
