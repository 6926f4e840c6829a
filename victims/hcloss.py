"""HCLoss: a whole ResNet-50 for each modality, six shared part embeddings, and the hetero-center loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.victims.layers.pooling import Normalise, l2_normalise
from vbench.victims.layers.resnet import ResidualStages
from vbench.victims.losses.triplet import identity_centers
from vbench.victims.make import build_then_initialise
from vbench.victims.pretrained import fill_residual
from vbench.victims.released import ReleasedLayout
from vbench.victims.staged import Parts, StagedVictim
from vbench.victims.training.recipe import (
    PUBLISHED_TWO_STREAM,
    THIN_RESIDUAL,
    THIN_RESIDUAL_OPTIONS,
    Recipe,
    TrainBatch,
)

_EMBEDDINGS = ("fc", "pooled")
_PARTS = 6
#: Length of a part's embedding at full width.
_DIM = 512
_CENTER_WEIGHT = 0.5

#: The released script; it counts epochs 0 to 60, and its crop at full size changes nothing.
_FULL_RECIPE = replace(
    PUBLISHED_TWO_STREAM,
    epochs=61,
    identities=4,
    instances=8,
    learning_rate=0.01,
    warmup_epochs=0,
    milestones=(30, 60),
    head=("embeddings", "classifiers"),
    padding=0,
)


class HCLoss(StagedVictim):
    """The two-stream network of Zhu et al., Neurocomputing 2020, with the hetero-center loss.

    ``width=1.0`` with default ``blocks`` is the authors' network: the modalities share no residual stage. The
    last map is averaged in six stripes; each passes through a linear layer of its own to 512 numbers and
    batch normalisation, shared by the modalities, and has a classifier. ``embedding`` picks which of the two
    outputs of the released test script is ranked: "fc", the six embeddings at unit length, by which the
    training selects its checkpoint, or "pooled", the six stripes before. ``flip`` averages with the mirrored
    image. ``generator`` samples the initial weights; without one they come from a fixed seed. Logits are the
    mean over the stripes.
    """

    name: ClassVar[str] = "hcloss"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "a ResNet-50 for each modality in six stripes, with the hetero-center loss"
    paper: ClassVar[str] = (
        "Zhu et al., Hetero-Center Loss for Cross-Modality Person Re-Identification, Neurocomputing 2020"
    )
    #: Options of the thin network, which trains in two minutes on two CPU cores.
    THIN: ClassVar[dict[str, Any]] = THIN_RESIDUAL_OPTIONS
    imagenet: ClassVar[str | None] = "resnet50"
    released: ClassVar[ReleasedLayout] = ReleasedLayout(
        renames=(
            *(
                (rf"^trunks\.{own}\.(stem\.)?", f"{theirs}_net.{theirs}.")
                for own, theirs in (("visible", "visible"), ("infrared", "thermal"))
            ),
            *((rf"^embeddings\.{index}\.", f"feature{index + 1}.feat_block.") for index in range(_PARTS)),
            *((rf"^classifiers\.{index}\.", f"classifier{index + 1}.classifier.") for index in range(_PARTS)),
        ),
        unused=(r"^(visible_net\.visible|thermal_net\.thermal)\.fc\.",),
        classifier="classifiers.0.1.weight",
        marks=("feature1.feat_block.0.weight", "thermal_net.thermal.conv1.weight"),
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
        embedding: str = "fc",
        flip: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self._check_options(num_classes, input_size)
        rows = -(-self.input_size[0] // (8 if small_stem else 16))
        if rows < _PARTS:
            raise BadInput(
                f"{self.name}: input_size leaves {rows} rows in the last map, too few for six stripes"
            )
        self.width, self.blocks, self.block = float(width), tuple(blocks), block
        self.small_stem = bool(small_stem)
        self.normalise = Normalise()
        self.embedding = self._check_choice("embedding", embedding, _EMBEDDINGS)
        self.flip = bool(flip)
        build_then_initialise(self._build, self, generator)

    def _build(self) -> None:
        self.trunks = nn.ModuleDict(
            {
                modality.value: ResidualStages(
                    self.width, self.blocks, self.block, stems=("stem",), small_stem=self.small_stem
                )
                for modality in Modality
            }
        )
        pooled, dim = self._trunk(Modality.VISIBLE).channels["layer4"], round(_DIM * self.width)
        self.embedding_dim = _PARTS * (dim if self.embedding == "fc" else pooled)
        self.embeddings = nn.ModuleList(
            nn.Sequential(nn.Linear(pooled, dim), nn.BatchNorm1d(dim)) for _ in range(_PARTS)
        )
        self.classifiers = nn.ModuleList(
            nn.Sequential(nn.LeakyReLU(0.1), nn.Linear(dim, self.num_classes)) for _ in range(_PARTS)
        )

    def start_from(self, state: Mapping[str, Tensor], where: str) -> None:
        """Fill both networks from a ResNet-50."""
        for modality in Modality:
            fill_residual(self._trunk(modality), state, where)

    def prepare(self, images: Tensor) -> Tensor:
        """Normalised images."""
        return self.normalise(images)

    def run_stage(self, stage: str, current: Tensor, modality: Modality) -> Tensor:
        """The stem or a residual stage of the modality's own network."""
        trunk = self._trunk(modality)
        return trunk.stem(current) if stage == "stem" else trunk.stage(stage, current)

    def head(self, current: Tensor, count: int) -> tuple[Parts, Tensor]:
        """Six vectors at unit length in a row, after the linear layers and before, and logits."""
        pooled, embedded, logits = self._stripes(current)
        parts = {
            name: torch.cat([l2_normalise(vector) for vector in vectors], dim=1)
            for name, vectors in (("fc", embedded), ("pooled", pooled))
        }
        return parts, torch.stack(logits).mean(dim=0)

    def compose(self, parts: Parts) -> Tensor:
        """The chosen one of the two vectors."""
        return parts[self.embedding]

    def training_losses(self, batch: TrainBatch) -> dict[str, Tensor]:
        """Identity cross-entropy and hetero-center loss, each summed over the six stripes."""
        maps = []
        for modality, images in zip(Modality, (batch.visible, batch.infrared), strict=True):
            current = self.prepare(images)
            for stage in self.stages:
                current = self.run_stage(stage, current, modality)
            maps.append(current)
        _, embedded, logits = self._stripes(torch.cat(maps))
        both = batch.labels.repeat(2)
        identity = [F.cross_entropy(one, both, label_smoothing=batch.label_smoothing) for one in logits]
        centers = [hetero_center(*l2_normalise(vectors).chunk(2), batch.labels) for vectors in embedded]
        return {
            "identity": torch.stack(identity).sum(),
            "hetero_center": _CENTER_WEIGHT * torch.stack(centers).sum(),
        }

    def recipe(self) -> Recipe:
        """The released settings at full width, otherwise settings chosen for two CPU cores."""
        return _FULL_RECIPE if self.width >= 1 else THIN_RESIDUAL

    def _trunk(self, modality: Modality) -> Any:
        return self.trunks[modality.value]

    def _stripes(self, current: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Pooled stripes, their embeddings and logits; stripes overlap if six do not divide the rows."""
        height, width = current.shape[2:]
        stride = height // _PARTS
        rows = F.avg_pool2d(current, (height - stride * (_PARTS - 1), width), (stride, width))
        pooled = list(rows.squeeze(3).unbind(2))
        embedded = [embed(vector) for embed, vector in zip(self.embeddings, pooled, strict=True)]
        logits = [classify(vector) for classify, vector in zip(self.classifiers, embedded, strict=True)]
        return pooled, embedded, logits


def hetero_center(visible: Tensor, infrared: Tensor, labels: Tensor) -> Tensor:
    """Sum over the identities of a batch of the squared distance between their two modalities' centers.

    Both are N x D; row i of each has identity ``labels[i]``. Source: Zhu et al., Neurocomputing 2020.
    """
    centers = [identity_centers(vectors, labels)[0] for vectors in (visible, infrared)]
    return (centers[0] - centers[1]).square().sum()
