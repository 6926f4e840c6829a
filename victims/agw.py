"""AGW: two-stream ResNet-50 with non-local blocks, generalised-mean pooling and a BN neck."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vbench.errors import BadInput, unknown_name
from vbench.types import Modality
from vbench.victims.base import Edits, Victim, VictimOutput
from vbench.victims.initialise import build_then_initialise
from vbench.victims.l2_norm import l2_normalise
from vbench.victims.neck import bn_neck
from vbench.victims.non_local import NonLocal
from vbench.victims.normalise import Normalise
from vbench.victims.pooling import gem_pool
from vbench.victims.recipe import Recipe
from vbench.victims.released import ReleasedLayout
from vbench.victims.triplet import weighted_regularised_triplet
from vbench.victims.two_stream import STAGES, TwoStreamTrunk

#: Non-local blocks follow the last so many residual blocks of a stage (fewer where it has fewer).
_NON_LOCAL_BLOCKS = {"layer2": 2, "layer3": 3}
_EMBEDDINGS = ("neck", "pooled")

_FULL_RECIPE = Recipe(
    epochs=81,
    identities=8,
    instances=4,
    optimizer="sgd",
    learning_rate=0.1,
    weight_decay=5e-4,
    schedule="step",
    warmup_epochs=10,
    milestones=(20, 50),
    head=("neck", "classifier"),
    trunk_rate=0.1,
    padding=10,
)


class AGW(Victim):
    """The AGW baseline of Ye et al., TPAMI 2021, as released for VIReID.

    ``width=1.0`` with default ``blocks`` is the authors' network. ``embedding`` picks which of its two
    outputs is ranked, each L2-normalised: "neck" (after batch normalisation, the authors' choice) or
    "pooled". ``generator`` draws the starting weights; without one they come from a fixed seed.
    """

    name: ClassVar[str] = "agw"
    summary: ClassVar[str] = "two-stream ResNet-50, non-local blocks, GeM pooling, BN neck"
    paper: ClassVar[str] = "Ye et al., Deep Learning for Person Re-identification, TPAMI 2021"
    #: Options of the small network that trains in two minutes on two CPU cores.
    THIN: ClassVar[dict[str, Any]] = {
        "width": 0.25,
        "blocks": (1, 1, 1, 1),
        "block": "basic",
        "small_stem": True,
        "input_size": (64, 32),
    }
    released: ClassVar[ReleasedLayout] = ReleasedLayout(
        renames=(
            (r"^trunk\.visible_stem\.", "visible_module.visible."),
            (r"^trunk\.infrared_stem\.", "thermal_module.thermal."),
            (r"^trunk\.(layer\d)\.", r"base_resnet.base.\1."),
            (r"^non_local\.layer(\d)\.(\d+)\.g\.", r"NL_\1.\2.g.0."),
            (r"^non_local\.layer(\d)\.(\d+)\.project\.", r"NL_\1.\2.W.0."),
            (r"^non_local\.layer(\d)\.(\d+)\.norm\.", r"NL_\1.\2.W.1."),
            (r"^non_local\.layer(\d)\.", r"NL_\1."),
            (r"^neck\.", "bottleneck."),
        ),
        twins=(
            (r"^(?:visible_module\.visible|thermal_module\.thermal)\.(layer\d)\.", r"base_resnet.base.\1."),
            (r"^base_resnet\.base\.(conv1|bn1)\.", r"visible_module.visible.\1."),
        ),
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
        embedding: str = "neck",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if embedding not in _EMBEDDINGS:
            raise unknown_name("embedding of agw", embedding, _EMBEDDINGS)
        if num_classes < 1:
            raise BadInput(f"agw: num_classes must be at least 1, got {num_classes}")
        if len(input_size) != 2 or min(input_size) < 16:
            raise BadInput(f"agw: input_size must be (H, W) of at least 16 pixels, got {tuple(input_size)}")
        self.num_classes = num_classes
        self.input_size = (int(input_size[0]), int(input_size[1]))
        self.width, self.blocks, self.block = float(width), tuple(blocks), block
        self.small_stem = bool(small_stem)
        self.embedding = embedding
        build_then_initialise(self._build, self, generator)
        self.normalise = Normalise()
        for blocks_of_stage in self.non_local.values():
            for added in blocks_of_stage:
                # An added block starts as the identity, so a pretrained trunk is not disturbed.
                nn.init.zeros_(added.norm.weight)

    def _build(self) -> None:
        self.trunk = TwoStreamTrunk(self.width, self.blocks, self.small_stem, self.block)
        self.non_local = nn.ModuleDict()
        counts = dict(zip(STAGES, self.blocks, strict=True))
        for stage, wanted in _NON_LOCAL_BLOCKS.items():
            count = min(wanted, counts[stage])
            channels = self.trunk.channels[stage]
            self.non_local[stage] = nn.ModuleList(NonLocal(channels) for _ in range(count))
        self.embedding_dim = self.trunk.channels["layer4"]
        self.neck = bn_neck(self.embedding_dim)
        self.classifier = nn.Linear(self.embedding_dim, self.num_classes, bias=False)

    def forward(self, images: Tensor, modality: Modality, edits: Edits | None = None) -> VictimOutput:
        """Embed N x 3 x H x W images in [0, 1]; see :meth:`Victim.forward`."""
        self.check_images(images)
        edits = self.check_edits(edits)
        features: dict[str, Tensor] = {}
        current = self.normalise(images)
        for stage in self.stages:
            current = self.trunk.stem(current, modality) if stage == "stem" else self._stage(stage, current)
            if stage in edits:
                current = self._edit(stage, current, edits)
            features[stage] = current
        pooled = gem_pool(current)
        neck = self.neck(pooled)
        embedding = l2_normalise(neck if self.embedding == "neck" else pooled)
        return VictimOutput(embedding, self.classifier(neck), features)

    def training_losses(
        self, visible: Tensor, infrared: Tensor, labels: Tensor, label_smoothing: float = 0.0
    ) -> dict[str, Tensor]:
        """Identity cross-entropy and weighted regularised triplet of a paired batch.

        Both modalities go through the shared stages as one batch, so its batch normalisation sees both.
        """
        stems = (
            self.trunk.stem(self.normalise(visible), Modality.VISIBLE),
            self.trunk.stem(self.normalise(infrared), Modality.INFRARED),
        )
        current = torch.cat(stems)
        for stage in STAGES:
            current = self._stage(stage, current)
        pooled = gem_pool(current)
        logits = self.classifier(self.neck(pooled))
        both = torch.cat((labels, labels))
        return {
            "identity": F.cross_entropy(logits, both, label_smoothing=label_smoothing),
            "triplet": weighted_regularised_triplet(pooled, both),
        }

    def recipe(self) -> Recipe:
        """The published settings at full width, settings found for two CPU cores otherwise."""
        return _FULL_RECIPE if self.width >= 1 else _THIN_RECIPE

    def describe(self) -> dict[str, object]:
        """Constructor options of this instance."""
        return {
            "num_classes": self.num_classes,
            "input_size": list(self.input_size),
            "width": self.width,
            "blocks": list(self.blocks),
            "block": self.block,
            "small_stem": self.small_stem,
            "embedding": self.embedding,
        }

    def _stage(self, name: str, features: Tensor) -> Tensor:
        added = self.non_local[name] if name in _NON_LOCAL_BLOCKS else ()
        first = self.blocks[STAGES.index(name)] - len(added)
        return self.trunk.stage(name, features, dict(enumerate(added, start=first)))

    def _edit(self, stage: str, features: Tensor, edits: Edits) -> Tensor:
        edited = edits[stage](features)
        if edited.shape != features.shape:
            shapes = f"{tuple(features.shape)} into {tuple(edited.shape)}"
            raise BadInput(f"{self.name}: the edit of {stage} changed its shape from {shapes}")
        return edited


_THIN_RECIPE = Recipe(
    epochs=20,
    identities=16,
    instances=2,
    optimizer="adamw",
    learning_rate=1e-2,
    weight_decay=5e-4,
    schedule="cosine",
    warmup_epochs=4,
    label_smoothing=0.1,
    padding=2,
    erasing=0.3,
    erasing_area=(0.02, 0.1),
    validation=0.05,
)
