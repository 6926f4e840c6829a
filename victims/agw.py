"""AGW: two-stream ResNet-50 with non-local blocks, generalised-mean pooling and a BN neck."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vbench.victims.layers import NonLocal, gem_pool, l2_normalise
from vbench.victims.losses import weighted_regularised_triplet
from vbench.victims.released import ReleasedLayout
from vbench.victims.staged import (
    TRUNK_RENAMES,
    TRUNK_TWINS,
    Parts,
    TwoStreamVictim,
    last_blocks,
)
from vbench.victims.training.recipe import (
    TrainBatch,
)

#: Number of last residual blocks of a stage that are followed by a non-local block (fewer if it has fewer).
_NON_LOCAL_BLOCKS = {"layer2": 2, "layer3": 3}


@dataclass(kw_only=True, eq=False, repr=False)
class AGW(TwoStreamVictim):
    """The AGW baseline of Ye et al., TPAMI 2022, as released for VIReID.

    ``width=1.0`` with default ``blocks`` is the authors' network. ``embedding`` picks which of its two
    outputs is ranked, each L2-normalised: "neck" (after batch normalisation, the authors' choice) or
    "pooled". ``flip`` averages with the mirrored image. ``generator`` samples the initial weights; without
    one they come from a fixed seed.
    """

    name, version = "agw", 1
    summary = "two-stream ResNet-50 with non-local blocks and generalised-mean pooling"
    paper = "Ye et al., Deep Learning for Person Re-identification: A Survey and Outlook, TPAMI 2022"
    released = ReleasedLayout(
        renames=(
            *TRUNK_RENAMES,
            (r"^non_local\.layer(\d)\.(\d+)\.g\.", r"NL_\1.\2.g.0."),
            (r"^non_local\.layer(\d)\.(\d+)\.project\.", r"NL_\1.\2.W.0."),
            (r"^non_local\.layer(\d)\.(\d+)\.norm\.", r"NL_\1.\2.W.1."),
            (r"^non_local\.layer(\d)\.", r"NL_\1."),
            (r"^neck\.", "bottleneck."),
        ),
        twins=TRUNK_TWINS,
        marks=("NL_2.0.theta.weight", "bottleneck.weight"),
    )

    def __post_init__(self, generator: torch.Generator | None) -> None:
        super().__post_init__(generator)
        for module in self.modules():
            if isinstance(module, NonLocal):
                # An added block starts as the identity, so it does not change a pretrained trunk.
                nn.init.zeros_(module.norm.weight)

    def _build(self) -> None:
        super()._build()
        self._places = last_blocks(_NON_LOCAL_BLOCKS, self.blocks)
        self.non_local = nn.ModuleDict(
            {
                stage: nn.ModuleList(NonLocal(self.trunk.channels[stage]) for _ in places)
                for stage, places in self._places.items()
            }
        )
        self.embedding_dim = self.trunk.channels["layer4"]
        self._add_classifier(self.embedding_dim)

    def shared_stage(self, stage: str, current: Tensor) -> Tensor:
        """A residual stage with its non-local blocks."""
        places: Sequence[int] = self._places.get(stage, ())
        added = self.non_local[stage].children() if places else ()
        return self.trunk.stage(stage, current, dict(zip(places, added, strict=True)))

    def head(self, current: Tensor, count: int) -> tuple[Parts, Tensor]:
        """The pooled vector and the one after the neck, both at unit length."""
        pooled = gem_pool(current)
        neck = self.neck(pooled)
        return {"neck": l2_normalise(neck), "pooled": l2_normalise(pooled)}, self.classifier(neck)

    def training_losses(self, batch: TrainBatch) -> dict[str, Tensor]:
        """Identity cross-entropy and weighted regularised triplet of a paired batch."""
        pooled = gem_pool(self.joint_map(batch.visible, batch.infrared))
        logits = self.classifier(self.neck(pooled))
        both = torch.cat((batch.labels, batch.labels))
        return {
            "identity": F.cross_entropy(logits, both, label_smoothing=batch.label_smoothing),
            "triplet": weighted_regularised_triplet(pooled, both),
        }
