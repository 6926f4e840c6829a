"""Victims with one stem per modality and shared residual stages (AGW and its descendants)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from vbench.types import Modality
from vbench.victims.normalise import Normalise
from vbench.victims.pretrained import fill_residual
from vbench.victims.residual import STAGES, ResidualStages
from vbench.victims.staged import StagedVictim

#: Our names of the trunk's tensors to the released ones: three whole ResNets lie in every such file.
TRUNK_RENAMES = (
    (r"^trunk\.visible_stem\.", "visible_module.visible."),
    (r"^trunk\.infrared_stem\.", "thermal_module.thermal."),
    (r"^trunk\.(layer\d)\.", r"base_resnet.base.\1."),
)
#: The trunk tensors in a released file that nothing uses, as twins of those in use.
TRUNK_TWINS = (
    (r"^(?:visible_module\.visible|thermal_module\.thermal)\.(layer\d)\.", r"base_resnet.base.\1."),
    (r"^base_resnet\.base\.(conv1|bn1)\.", r"visible_module.visible.\1."),
)


class TwoStreamTrunk(ResidualStages):
    """ResNet-50 with a stem per modality and shared stages; arguments as of :class:`ResidualStages`."""

    def __init__(
        self,
        width: float = 1.0,
        blocks: Sequence[int] = (3, 4, 6, 3),
        small_stem: bool = False,
        block: str = "bottleneck",
        stages: int = 4,
    ) -> None:
        super().__init__(width, blocks, block, stages, ("visible_stem", "infrared_stem"), small_stem)

    def stem(self, images: Tensor, modality: Modality) -> Tensor:
        """Run the stem of one modality on normalised images."""
        stem = self.visible_stem if modality is Modality.VISIBLE else self.infrared_stem
        return stem(images)


class TwoStreamVictim(StagedVictim):
    """Keeps the options of a two-stream ResNet; ``self.trunk`` is made by the subclass with them."""

    trunk: TwoStreamTrunk
    imagenet: ClassVar[str | None] = "resnet50"

    def __init__(
        self,
        *,
        num_classes: int,
        input_size: Sequence[int],
        width: float,
        blocks: Sequence[int],
        block: str,
        small_stem: bool,
    ) -> None:
        super().__init__()
        self._check_options(num_classes, input_size)
        self.width, self.blocks, self.block = float(width), tuple(blocks), block
        self.small_stem = bool(small_stem)
        self.normalise = Normalise()

    def start_from(self, state: Mapping[str, Tensor], where: str) -> None:
        """Fill the trunk from a ResNet-50, both stems from its one."""
        fill_residual(self.trunk, state, where)

    def prepare(self, images: Tensor) -> Tensor:
        """Normalised images."""
        return self.normalise(images)

    def run_stage(self, stage: str, current: Tensor, modality: Modality) -> Tensor:
        """The stem of the modality, or a stage that both share."""
        return self.trunk.stem(current, modality) if stage == "stem" else self.shared_stage(stage, current)

    def shared_stage(self, stage: str, current: Tensor) -> Tensor:
        """One of ``layer1`` ... ``layer4`` with what belongs to it; for both modalities alike."""
        return self.trunk.stage(stage, current)

    def joint_map(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Last map of a training batch of images in [0, 1], visible rows first.

        Both modalities go through the shared stages as one batch, so its batch normalisation sees both.
        """
        return self.joint_map_of_prepared(self.prepare(visible), self.prepare(infrared))

    def joint_map_of_prepared(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """:meth:`joint_map` for a model that changes its training images after :meth:`prepare`."""
        current = torch.cat(
            [
                self.run_stage("stem", visible, Modality.VISIBLE),
                self.run_stage("stem", infrared, Modality.INFRARED),
            ]
        )
        for stage in self.stages[1:]:
            current = self.shared_stage(stage, current)
        return current


def last_blocks(added: Mapping[str, int], blocks: Sequence[int]) -> dict[str, range]:
    """Indices of the last ``added[stage]`` residual blocks of each stage, fewer where it has fewer."""
    counts = dict(zip(STAGES, blocks, strict=True))
    return {
        stage: range(counts[stage] - min(wanted, counts[stage]), counts[stage])
        for stage, wanted in added.items()
    }
