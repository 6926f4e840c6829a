"""PMT: a single-stream vision transformer trained progressively from grey images to both modalities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.data.pixels import grey_images
from vbench.victims.layers import l2_normalise
from vbench.victims.losses import batch_hard_triplet, discriminative_center, modality_enhancement
from vbench.victims.make import DEFAULT_SEED
from vbench.victims.pretrained import start_from_imagenet_vit, timm_renames
from vbench.victims.released import ReleasedLayout
from vbench.victims.staged import Parts, StagedVictim
from vbench.victims.training.batches import generator_on, jitter_or_blur
from vbench.victims.training.recipe import Recipe, TrainBatch
from vbench.victims.transformer import VisionTransformer

#: The authors' 6 of 24 epochs.
_PROGRESSIVE_SHARE = 0.25
_MARGIN = 0.1
_ENHANCEMENT_WEIGHT = 0.5
_CENTER_WEIGHT = 0.5
_FULL_WIDTH = 768

_FULL_RECIPE = Recipe(
    epochs=24,
    identities=8,
    instances=4,
    learning_rate=3e-4,
    weight_decay=1e-4,
    warmup_epochs=3,
    head=("trunk.class_token", "trunk.positions", "trunk.norm", "neck", "classifier"),
    trunk_rate=0.5,
    erasing=0.5,
    erasing_area=(0.02, 0.4),
)
#: Settings chosen for two CPU cores.
_THIN_RECIPE = replace(
    _FULL_RECIPE,
    epochs=12,
    instances=2,
    learning_rate=1e-2,
    weight_decay=1e-2,
    warmup_epochs=2,
    head=("trunk.stem", *_FULL_RECIPE.head),
    trunk_rate=0.2,
    label_smoothing=0.1,
    flip=0.0,
    padding=2,
    erasing=0.0,
    validation=0.05,
)


@dataclass(kw_only=True, eq=False, repr=False)
class PMT(StagedVictim):
    """The progressive modality-shared transformer of Lu et al., AAAI 2023, with its ViT backbone.

    One network embeds both modalities. Defaults are the authors' ViT-B/16 with overlapping patches: ``patch``
    and ``stride`` in pixels, ``width`` channels in ``depth`` blocks of ``heads`` heads, hidden layers
    ``mlp_ratio`` times as wide; ``dropout`` and ``drop_path`` act in training only. The class token after the
    neck, L2-normalised, is what is ranked ("neck", the one setting of ``embedding``). ``flip`` averages with
    the mirrored image. ``generator`` samples the initial weights; without one they come from a fixed seed.

    ``stem_channels`` is not the authors': it adds a convolution and a pooling in front, without which a small
    transformer learns little from few images without pretraining (Xiao et al., NeurIPS 2021). ``patch`` and
    ``stride`` then count pixels of that stem's map, which is half the size of the image.

    Stages: "stem" is the patch tokens with positions, "layer1" to "layer4" the tokens after each quarter of
    the blocks before the last two, all as N x width x h x w maps; edits cannot change the class token. Two
    blocks follow "layer4" because patch tokens are not used after the last block.
    """

    name, version = "pmt", 1
    summary = "single-stream ViT-B/16 with overlapping patches and a BN neck"
    paper = (
        "Lu et al., Learning Progressive Modality-shared Transformers for Effective Visible-Infrared "
        "Person Re-identification, AAAI 2023"
    )
    imagenet = "vit_b_16"
    #: Options of the thin network, which trains in two minutes on two CPU cores.
    THIN: ClassVar[dict[str, Any]] = {
        "patch": 6,
        "stride": 4,
        "width": 96,
        "depth": 6,
        "heads": 3,
        "mlp_ratio": 2.0,
        "dropout": 0.0,
        "stem_channels": 16,
        "input_size": (64, 32),
    }
    released = ReleasedLayout(
        renames=(*timm_renames("trunk.", "base."), (r"^neck\.", "bottleneck.")),
        marks=("base.cls_token", "base.patch_embed.proj.weight", "bottleneck.weight"),
    )

    embeddings = ("neck",)
    num_classes: int = 395
    input_size: tuple[int, int] = (256, 128)
    patch: int = 16
    stride: int = 12
    width: int = _FULL_WIDTH
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    dropout: float = 0.03
    drop_path: float = 0.1
    stem_channels: int = 0
    embedding: str = "neck"
    flip: bool = False
    generator: InitVar[torch.Generator | None] = None

    def __post_init__(self, generator: torch.Generator | None) -> None:
        for option in ("patch", "stride", "width", "depth", "heads", "stem_channels"):
            setattr(self, option, int(getattr(self, option)))
        self.mlp_ratio = float(self.mlp_ratio)
        self.dropout, self.drop_path = self._rate("dropout"), self._rate("drop_path")
        if self.stem_channels < 0:
            given = self.stem_channels
            raise BadInput(f"{self.name}: stem_channels must be 0 (no stem) or more, got {given}")
        generator = generator or torch.Generator().manual_seed(DEFAULT_SEED)
        super().__post_init__(generator)
        self.trunk.initialise(generator)

    def _build(self) -> None:
        self.trunk = VisionTransformer(
            self.input_size,
            self.patch,
            self.stride,
            self.width,
            self.depth,
            self.heads,
            self.mlp_ratio,
            self.dropout,
            self.drop_path,
            self.stem_channels,
        )
        self.embedding_dim = self.width
        self._add_classifier(self.width)

    def start_from(self, state: Mapping[str, Tensor], where: str) -> None:
        """Fill the transformer from a ViT-B/16 of timm or torchvision; positions are resized."""
        start_from_imagenet_vit(self, state, where)

    def run_stage(self, stage: str, current: Tensor, modality: Modality) -> Tensor:
        """Patch embedding or a quarter of the blocks; N x (1 + h w) x width, the same for both modalities."""
        if stage == "stem":
            return self.trunk.embed(current)
        return self.trunk.quarter(self.stages.index(stage) - 1, current)

    def to_map(self, current: Tensor, count: int) -> Tensor:
        """Patch tokens as an N x width x h x w map, the class token left out."""
        return current[:, 1:].transpose(1, 2).unflatten(2, self.trunk.grid)

    def from_map(self, edited: Tensor, current: Tensor) -> Tensor:
        """The map as patch tokens, after the class token of ``current`` (repeated for several maps)."""
        token = current[:, :1].repeat(len(edited) // len(current), 1, 1)
        return torch.cat((token, edited.flatten(2).transpose(1, 2)), dim=1)

    def head(self, current: Tensor, count: int) -> tuple[Parts, Tensor]:
        """The class token after the neck, at unit length."""
        neck = self.neck(self.trunk.class_vector(current))
        return {"neck": l2_normalise(neck)}, self.classifier(neck)

    def training_losses(self, batch: TrainBatch) -> dict[str, Tensor]:
        """The progressive objective of Lu et al., AAAI 2023, for a paired batch.

        In the first quarter of the epochs visible images are grey and the triplet loss compares images of one
        modality; later of both, and the modality-shared enhancement and the discriminative center loss are
        added (zero before).
        """
        grey = batch.epoch < _PROGRESSIVE_SHARE * batch.epochs
        visible = grey_images(batch.visible) if grey else batch.visible
        images = torch.cat((visible, jitter_or_blur(batch.infrared, batch.generator)))
        vectors = self.trunk(self.prepare(images), generator_on(images.device, batch.generator))
        logits = self.classifier(self.neck(vectors))
        both = torch.cat((batch.labels, batch.labels))
        # The authors add the means of both modalities; the joint mean is half of that sum.
        identity = 2 * F.cross_entropy(logits, both, label_smoothing=batch.label_smoothing)
        return {"identity": identity, **_metric_losses(vectors.float(), batch.labels, grey)}

    def recipe(self) -> Recipe:
        """The published settings at full width, otherwise settings chosen for two CPU cores."""
        return _FULL_RECIPE if self.width >= _FULL_WIDTH else _THIN_RECIPE


def _metric_losses(vectors: Tensor, labels: Tensor, within: bool) -> dict[str, Tensor]:
    if within:
        seen, unseen = (batch_hard_triplet(half, labels, _MARGIN) for half in vectors.chunk(2))
        none = vectors.new_zeros(())
        return {"triplet": seen + unseen, "enhancement": none, "center": none}
    both = torch.cat((labels, labels))
    triplet = batch_hard_triplet(vectors, both, _MARGIN)
    # Split after the triplet: the order in which gradients are added changes their last bits.
    visible, infrared = vectors.chunk(2)
    return {
        "triplet": triplet,
        "enhancement": _ENHANCEMENT_WEIGHT * modality_enhancement(visible, infrared, labels),
        "center": _CENTER_WEIGHT * discriminative_center(vectors, both),
    }
