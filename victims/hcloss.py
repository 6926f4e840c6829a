"""HCLoss: a whole ResNet-50 for each modality, six shared part embeddings, and the hetero-center loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.victims.layers import ResidualStages, l2_normalise
from vbench.victims.losses import identity_centers
from vbench.victims.pretrained import fill_residual
from vbench.victims.released import ReleasedLayout
from vbench.victims.staged import Parts, ResidualVictim
from vbench.victims.training.recipe import PUBLISHED_TWO_STREAM, THIN_RESIDUAL, TrainBatch

_PARTS = 6
#: Length of a part's embedding at full width.
_DIM = 512
_CENTER_WEIGHT = 0.5


@dataclass(kw_only=True, eq=False, repr=False)
class HCLoss(ResidualVictim):
    """The two-stream network of Zhu et al., Neurocomputing 2020, with the hetero-center loss.

    ``width=1.0`` with default ``blocks`` is the authors' network: the modalities share no residual stage. The
    last map is averaged in six stripes; each passes through a linear layer of its own to 512 numbers and
    batch normalisation, shared by the modalities, and has a classifier. ``embedding`` picks which of the two
    outputs of the released test script is ranked: "fc", the six embeddings at unit length, by which the
    training selects its checkpoint, or "pooled", the six stripes before. ``flip`` averages with the mirrored
    image. ``generator`` samples the initial weights; without one they come from a fixed seed. Logits are the
    mean over the stripes.
    """

    name, version = "hcloss", 1
    summary = "a ResNet-50 for each modality in six stripes, with the hetero-center loss"
    paper = "Zhu et al., Hetero-Center Loss for Cross-Modality Person Re-Identification, Neurocomputing 2020"
    released = ReleasedLayout(
        renames=(
            *(
                (rf"^trunks\.{own}\.(stem\.)?", f"{theirs}_net.{theirs}.")
                for own, theirs in (("visible", "visible"), ("infrared", "thermal"))
            ),
            *((rf"^linear\.{index}\.", f"feature{index + 1}.feat_block.") for index in range(_PARTS)),
            *((rf"^classifiers\.{index}\.", f"classifier{index + 1}.classifier.") for index in range(_PARTS)),
        ),
        unused=(r"^(visible_net\.visible|thermal_net\.thermal)\.fc\.",),
        classifier="classifiers.0.1.weight",
        marks=("feature1.feat_block.0.weight", "thermal_net.thermal.conv1.weight"),
    )

    embeddings = ("fc", "pooled")
    #: The released script; it counts epochs 0 to 60, and its crop at full size changes nothing.
    full_recipe = replace(
        PUBLISHED_TWO_STREAM,
        epochs=61,
        identities=4,
        instances=8,
        learning_rate=0.01,
        warmup_epochs=0,
        milestones=(30, 60),
        head=("linear", "classifiers"),
        padding=0,
    )
    thin_recipe = replace(THIN_RESIDUAL, identities=4, instances=8, learning_rate=3e-3)
    embedding: str = "fc"

    def __post_init__(self, generator: torch.Generator | None) -> None:
        super().__post_init__(generator)
        # As the authors' networks do, which both start from ImageNet's weights.
        visible, infrared = (self._trunk(modality) for modality in Modality)
        infrared.load_state_dict(visible.state_dict())

    def _build(self) -> None:
        rows = -(-self.input_size[0] // (8 if self.small_stem else 16))
        if rows < _PARTS:
            raise BadInput(f"{self.name}: {rows} rows in the last map are too few for six stripes")
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
        self.linear = nn.ModuleList(
            nn.Sequential(nn.Linear(pooled, dim), nn.BatchNorm1d(dim)) for _ in range(_PARTS)
        )
        self.classifiers = nn.ModuleList(
            nn.Sequential(nn.LeakyReLU(0.1), nn.Linear(dim, self.num_classes)) for _ in range(_PARTS)
        )

    def start_from(self, state: Mapping[str, Tensor], where: str) -> None:
        """Fill both networks from a ResNet-50."""
        for modality in Modality:
            fill_residual(self._trunk(modality), state, where)

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
        halves = [l2_normalise(vectors).chunk(2) for vectors in embedded]
        centers = [hetero_center(visible, infrared, batch.labels) for visible, infrared in halves]
        return {
            "identity": torch.stack(identity).sum(),
            "hetero_center": _CENTER_WEIGHT * torch.stack(centers).sum(),
        }

    def _trunk(self, modality: Modality) -> Any:
        return self.trunks[modality.value]

    def _stripes(self, current: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Pooled stripes, their embeddings and logits; stripes overlap if six do not divide the rows."""
        height, width = current.shape[2:]
        stride = height // _PARTS
        rows = F.avg_pool2d(current, (height - stride * (_PARTS - 1), width), (stride, width))
        pooled = list(rows.squeeze(3).unbind(2))
        embedded = [embed(vector) for embed, vector in zip(self.linear, pooled, strict=True)]
        logits = [classify(vector) for classify, vector in zip(self.classifiers, embedded, strict=True)]
        return pooled, embedded, logits


def hetero_center(visible: Tensor, infrared: Tensor, labels: Tensor) -> Tensor:
    """Sum over the identities of a batch of the squared distance between their two modalities' centers.

    Both are N x D; row i of each has identity ``labels[i]``. Source: Zhu et al., Neurocomputing 2020.
    """
    centers = [identity_centers(vectors, labels)[0] for vectors in (visible, infrared)]
    return (centers[0] - centers[1]).square().sum()
