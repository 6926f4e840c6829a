"""MMN: two-stream ResNet-50 on images and their generated middle modality, in four stripes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.victims.base import Edits, VictimOutput
from vbench.victims.layers import MiddleModality, bn_neck, l2_normalise
from vbench.victims.losses import DistributionConsistency, batch_hard_triplet
from vbench.victims.released import ReleasedLayout
from vbench.victims.staged import TRUNK_RENAMES, TRUNK_TWINS, Parts, TwoStreamVictim
from vbench.victims.training.recipe import (
    PUBLISHED_TWO_STREAM,
    THIN_RESIDUAL,
    TrainBatch,
)

#: Similarity by which each setting is compared.
_EMBEDDINGS: Mapping[str, str] = {
    "image": "cosine",
    "middle": "cosine",
    "visible_middle": "cosine",
    "infrared_middle": "cosine",
    "sum": "dot",
    "min": "dot-min",
    "max": "dot-max",
    "pooled": "cosine",
    "middle_pooled": "cosine",
}
#: Settings that rank one modality's images against the other's middle-modality versions.
_CROSSED = {"visible_middle": Modality.VISIBLE, "infrared_middle": Modality.INFRARED}
_STRIPES = 4
_MARGIN = 0.3
_CONSISTENCY_WEIGHT = 0.2


@dataclass(kw_only=True, eq=False, repr=False)
class MMN(TwoStreamVictim):
    """The middle modality network of Zhang et al., ACM MM 2021.

    ``width=1.0`` with default ``blocks`` is the authors' network. Every image is embedded twice: itself, and
    its version in the middle modality made by the generator; each embedding is four stripes after their
    necks. ``embedding`` picks one of the seven rankings that the authors' script prints: "image" against
    image (the default: their training selects its checkpoint by it, and they name no other as their result),
    "middle" against middle; "visible_middle" and "infrared_middle", where the named modality is represented
    by its middle version and the other by the image itself; "sum", "min" and "max" of these four
    similarities. "pooled" and "middle_pooled" are the vectors before the necks, which the script extracts and
    does not rank by. ``flip`` averages with the mirrored image. ``generator`` samples the initial weights;
    without one they come from a fixed seed.

    Edits and features of a stage have the maps of the image and of its middle version concatenated along the
    channels. Logits are the mean over the image's stripes.
    """

    name, version = "mmn", 1
    summary = "two-stream ResNet-50 with a generated middle modality and four stripes"
    paper = (
        "Zhang et al., Towards a Unified Middle Modality Learning for Visible-Infrared Person Re-"
        "Identification, ACM MM 2021"
    )
    released = ReleasedLayout(
        renames=(
            *TRUNK_RENAMES,
            *(
                (rf"^{own}\.{index}\.", f"{theirs}{index + 1}.")
                for own, theirs in (("necks", "bottleneck"), ("classifiers", "classifier"))
                for index in range(_STRIPES)
            ),
            *(
                (rf"^middle\.{modality}\.{own}\.", f"{theirs}{number}.")
                for number, modality in enumerate(("visible", "infrared"), start=1)
                for own, theirs in (("mix", "encode"), ("scale", "fc"), ("norm", "bn"))
            ),
            (r"^middle\.decoder\.", "decode."),
        ),
        twins=TRUNK_TWINS,
        classifier="classifiers.0.weight",
        marks=("encode1.weight", "decode.weight"),
    )
    embeddings = _EMBEDDINGS
    full_recipe = replace(
        PUBLISHED_TWO_STREAM,
        identities=4,
        head=("necks", "classifiers"),
        erasing=0.5,
        erasing_area=(0.02, 0.4),
    )
    thin_recipe = replace(THIN_RESIDUAL, epochs=8, warmup_epochs=3)
    input_size: tuple[int, int] = (384, 192)
    embedding: str = "image"

    def __post_init__(self, generator: torch.Generator | None) -> None:
        super().__post_init__(generator)
        self.similarity = _EMBEDDINGS[self.embedding]
        self.middle.start_as_average()

    def _check_stripes(self) -> None:
        rows = -(-self.input_size[0] // (8 if self.small_stem else 16))
        if -(-rows // -(-rows // _STRIPES)) != _STRIPES:
            raise BadInput(
                f"{self.name}: input_size leaves {rows} rows in the last map, which do not make {_STRIPES} "
                "stripes; use a height that is a multiple of 64"
            )

    def _build(self) -> None:
        self._check_stripes()
        super()._build()
        self.middle = MiddleModality()
        dim = self.trunk.channels["layer4"]
        self.embedding_dim = _STRIPES * dim * (2 if self.embedding in ("min", "max") else 1)
        self.necks = nn.ModuleList(bn_neck(dim) for _ in range(_STRIPES))
        self.classifiers = nn.ModuleList(
            nn.Linear(dim, self.num_classes, bias=False) for _ in range(_STRIPES)
        )
        self.consistency = DistributionConsistency(dim)

    def forward(self, images: Tensor, modality: Modality, edits: Edits | None = None) -> VictimOutput:
        """Embed N x 3 x H x W images in [0, 1]; see :meth:`Victim.forward`."""
        output = super().forward(images, modality, edits)
        if self.embedding in _CROSSED:
            generated = _CROSSED[self.embedding] is modality
            output.embedding = output.parts["middle" if generated else "image"]
        return output

    def run_stage(self, stage: str, current: Tensor, modality: Modality) -> Tensor:
        """As in every two-stream network; the stem takes a batch of the images and their middle versions."""
        if stage == "stem":
            current = torch.cat((current, self.middle(current, modality)))
        return super().run_stage(stage, current, modality)

    def head(self, current: Tensor, count: int) -> tuple[Parts, Tensor]:
        """Four vectors at unit length, of image and middle version, and the image's logits."""
        pooled, necks, logits = self._stripes(current)
        parts: Parts = {}
        for name, vectors in (("", necks), ("_pooled", pooled)):
            image, middle = l2_normalise(torch.cat(vectors, dim=1)).split(count)
            parts |= {f"image{name}": image, f"middle{name}": middle}
        parts["pooled"] = parts.pop("image_pooled")
        return parts, torch.stack(logits).mean(dim=0)[:count]

    def compose(self, parts: Parts) -> Tensor:
        """The vector to be ranked by :attr:`similarity`; for two crossed settings :meth:`forward` chooses."""
        if self.embedding == "sum":
            return parts["image"] + parts["middle"]
        if self.embedding in ("min", "max"):
            return torch.cat((parts["image"], parts["middle"]), dim=1)
        return parts["image" if self.embedding in _CROSSED else self.embedding]

    def training_losses(self, batch: TrainBatch) -> dict[str, Tensor]:
        """Identity, triplets across the modalities and consistency of middle versions, means over stripes."""
        pooled, _, logits = self._stripes(self.joint_map(batch.visible, batch.infrared))
        labels = batch.labels.repeat(4)

        def mean(values: list[Tensor]) -> Tensor:
            return torch.stack(values).mean()

        return {
            "identity": mean(
                [F.cross_entropy(one, labels, label_smoothing=batch.label_smoothing) for one in logits]
            ),
            "triplet": mean([_crossed_triplets(vectors, batch.labels) for vectors in pooled]),
            "consistency": _CONSISTENCY_WEIGHT * mean([self._consistency_of(v) for v in pooled]),
        }

    def _stripes(self, current: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        pooled = [stripe.mean(dim=(2, 3)) for stripe in current.chunk(_STRIPES, dim=2)]
        necks = [neck(vector) for neck, vector in zip(self.necks, pooled, strict=True)]
        logits = [classify(vector) for classify, vector in zip(self.classifiers, necks, strict=True)]
        return pooled, necks, logits

    def _consistency_of(self, vectors: Tensor) -> Tensor:
        _, visible_middle, _, infrared_middle = vectors.chunk(4)
        return self.consistency(visible_middle, infrared_middle)


def _crossed_triplets(vectors: Tensor, labels: Tensor) -> Tensor:
    """Mean over the four pairs of a visible version (image or middle) with an infrared one."""
    visible, visible_middle, infrared, infrared_middle = vectors.chunk(4)
    pairs = product((visible, visible_middle), (infrared, infrared_middle))
    both = labels.repeat(2)
    return torch.stack([batch_hard_triplet(torch.cat(pair), both, _MARGIN) for pair in pairs]).mean()
