"""The attacker's feature modules at the stages of a victim, as edits of its forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vbench.attacks.fsam_uap.attention import attention
from vbench.attacks.fsam_uap.frequency import FSAM, SFM
from vbench.parallel.shards import whole
from vbench.victims.base import Edits


@dataclass(frozen=True)
class MaskStatistics:
    """How open the masks of one module are on a batch: all values are in [0, 1]."""

    mean: float
    spread: float
    saturated: float


class FeatureModules(nn.Module):
    """FSAM and SFM after each chosen stage.

    ``channels``: stage name -> channels there. Without a module the map passes through unchanged.
    """

    def __init__(
        self,
        channels: Mapping[str, int],
        kind: str,
        fsam: bool,
        sfm: bool,
        start: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.frequency = nn.ModuleDict(
            {
                stage: FSAM(attention(kind, width, start, generator))
                for stage, width in channels.items()
                if fsam
            }
        )
        self.spatial = nn.ModuleDict(
            {stage: SFM(attention(kind, width, start, generator)) for stage, width in channels.items() if sfm}
        )
        self.stages = tuple(channels)

    def frequency_edits(self) -> Edits:
        """The path x1: frequency attention alone."""
        return dict(self.frequency.items())

    def edits(self) -> Edits:
        """The path x2: frequency attention, then spatial focus."""
        return {stage: self._both(stage) for stage in self.stages if self._at(stage)}

    def forked_edits(self) -> Edits:
        """Both paths in one pass of a victim that forks: x1 in the first half of the rows, x2 in the second.

        What lies before the first stage with modules, and its frequency attention, runs once for both.
        """
        stages = [stage for stage in self.stages if self._at(stage)]
        return {stage: self._fork(stage, first=stage == stages[0]) for stage in stages}

    def _fork(self, stage: str, first: bool) -> Callable[[Tensor], Tensor]:
        def edit(features: Tensor) -> Tensor:
            turned = self.frequency[stage](features) if stage in self.frequency else features
            one, two = (turned, turned) if first else turned.chunk(2)
            return torch.cat([one, self.spatial[stage](two) if stage in self.spatial else two])

        return edit

    def _at(self, stage: str) -> list[nn.Module]:
        return [modules[stage] for modules in (self.frequency, self.spatial) if stage in modules]

    def _both(self, stage: str) -> Callable[[Tensor], Tensor]:
        return nn.Sequential(*self._at(stage))

    @torch.no_grad()
    def mask_statistics(self, run: Callable[[Edits], object]) -> dict[str, MaskStatistics]:
        """Statistics of every mask while ``run`` sends a batch through the victim with the edits given.

        ``saturated`` is the share of mask values within 0.01 of 0 or 1.
        """
        found: dict[str, MaskStatistics] = {}

        def watch(stage: str) -> Callable[[Tensor], Tensor]:
            def edit(features: Tensor) -> Tensor:
                for module in self._at(stage):
                    mask = module.mask(features)
                    mask = whole(mask.expand(len(features), *mask.shape[1:]))
                    closed = ((mask < 0.01) | (mask > 0.99)).float().mean().item()
                    name = f"{type(module).__name__.lower()}.{stage}"
                    found[name] = MaskStatistics(mask.mean().item(), mask.std(unbiased=False).item(), closed)
                    features = module(features)
                return features

            return edit

        run({stage: watch(stage) for stage in self.stages})
        return found
