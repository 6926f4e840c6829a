"""Forward passes shared by victims: a chain of stages with edits, two-stream networks."""

# No "from __future__ import annotations": options are declared here and their types read in other modules.

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vbench.core.errors import BadInput, unknown_name
from vbench.core.types import Modality
from vbench.victims.base import Edits, Victim, VictimOutput
from vbench.victims.layers import STAGES, Normalise, ResidualStages, Stem, bn_neck, l2_normalise
from vbench.victims.make import build_then_initialise
from vbench.victims.pretrained import fill_residual
from vbench.victims.training.recipe import PUBLISHED_TWO_STREAM, THIN_RESIDUAL, THIN_RESIDUAL_OPTIONS, Recipe

Parts = dict[str, Tensor]


class StageMaps(Mapping[str, Tensor]):
    """Stage name -> N x C x h x w map, each computed on first access.

    Stacking versions copies a map, and most callers never read one.
    """

    def __init__(self, to_map: Callable[[Tensor, int], Tensor]) -> None:
        self._to_map = to_map
        self._outputs: dict[str, tuple[Tensor, int]] = {}
        self._maps: dict[str, Tensor] = {}

    def add(self, stage: str, output: Tensor, count: int) -> None:
        """Store a stage's output for ``count`` rows, in the network's own layout."""
        self._outputs[stage] = output, count

    def replace(self, stage: str, edited: Tensor) -> None:
        """Replace the map of ``stage`` with an edited one."""
        self._maps[stage] = edited

    def __getitem__(self, stage: str) -> Tensor:
        if stage not in self._maps:
            self._maps[stage] = self._to_map(*self._outputs[stage])
        return self._maps[stage]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)


class StagedVictim(Victim):
    """A victim that is a chain of stages and a head.

    A subclass is a dataclass whose fields are its options, ``generator`` among them, and defines what a stage
    and the head compute. Several versions of an image (a generated modality, parallel branches) are stacked
    along the batch: version v of image i is row ``v * N + i``. For edits and in ``VictimOutput.features``
    they are stacked along the channels instead, so that row i always belongs to image i.
    """

    #: Values of the option ``embedding``.
    embeddings: ClassVar[Collection[str]] = ("neck", "pooled")
    embedding: str
    #: Least height and width in pixels.
    _least_side = 16
    #: Whether the embedding of the mirrored image is merged in, as in some authors' test scripts.
    flip: bool = False
    forks = True

    def __post_init__(self, generator: torch.Generator | None) -> None:
        super().__init__()
        if self.num_classes < 1:
            raise BadInput(f"{self.name}: num_classes must be at least 1, got {self.num_classes}")
        size, least = tuple(self.input_size), self._least_side
        if len(size) != 2 or min(size) < least:
            raise BadInput(f"{self.name}: input_size must be (H, W) of at least {least} pixels, got {size}")
        self.num_classes, self.input_size = int(self.num_classes), (int(size[0]), int(size[1]))
        self._check_choice("embedding", self.embeddings)
        self.flip = bool(self.flip)
        self.normalise = Normalise()
        build_then_initialise(self._build, self, generator)

    def _check_choice(self, option: str, known: Collection[str]) -> None:
        if getattr(self, option) not in known:
            raise unknown_name(f"{option} of {self.name}", getattr(self, option), known)

    def _rate(self, option: str) -> float:
        value = getattr(self, option)
        if not 0 <= value < 1:
            raise BadInput(f"{self.name}: {option} must lie in [0, 1), got {value}")
        return float(value)

    @abstractmethod
    def _build(self) -> None:
        """Make the layers, without weights."""

    def _add_classifier(self, dim: int) -> None:
        self.neck = bn_neck(dim)
        self.classifier = nn.Linear(dim, self.num_classes, bias=False)

    def forward(self, images: Tensor, modality: Modality, edits: Edits | None = None) -> VictimOutput:
        """Embed N x 3 x H x W images in [0, 1]; see :meth:`Victim.forward`.

        With ``flip`` the features are those of the image, not its mirror, and edits are applied to both
        passes.
        """
        self.check_images(images)
        edits = self.check_edits(edits)
        parts, logits, features = self._once(images, modality, edits)
        if self.flip:
            mirrored, mirrored_logits, _ = self._once(images.flip(3), modality, edits)
            parts = {name: self.merge_mirrored(part, mirrored[name]) for name, part in parts.items()}
            if logits is not None and mirrored_logits is not None:
                logits = (logits + mirrored_logits) / 2
        return VictimOutput(self.compose(parts), logits, features, parts)

    def prepare(self, images: Tensor) -> Tensor:
        """Input of the first stage, from images in [0, 1]."""
        return self.normalise(images)

    @abstractmethod
    def run_stage(self, stage: str, current: Tensor, modality: Modality) -> Tensor:
        """Output of one stage, given that of the previous one; N x C x h x w or a multiple of N rows."""

    @abstractmethod
    def head(self, current: Tensor, count: int) -> tuple[Parts, Tensor | None]:
        """Named vectors of ``count`` images from the last stage's output, and logits (or None)."""

    def compose(self, parts: Parts) -> Tensor:
        """The N x D embedding that is ranked, from the named vectors: the chosen one."""
        return parts[self.embedding]

    def merge_mirrored(self, part: Tensor, mirrored: Tensor) -> Tensor:
        """Merge the vectors of an image and its mirror: their mean, at unit length."""
        return l2_normalise((part + mirrored) / 2)

    def last_map(self, images: Tensor, modality: Modality) -> Tensor:
        """Output of the last stage for N x 3 x H x W images in [0, 1], without edits; for training."""
        current = self.prepare(images)
        for stage in self.stages:
            current = self.run_stage(stage, current, modality)
        return current

    def to_map(self, current: Tensor, count: int) -> Tensor:
        """A stage's output as a map of ``count`` rows; versions become channels."""
        versions = len(current) // count
        if versions == 1:
            return current
        stacked = current.unflatten(0, (versions, count)).transpose(0, 1)
        return stacked.flatten(1, 2)

    def from_map(self, edited: Tensor, current: Tensor) -> Tensor:
        """The inverse of :meth:`to_map`, for a stage whose unedited output is ``current``.

        After an edit that returned several maps per image, ``edited`` has a multiple of the rows of
        ``current``.
        """
        versions = edited.shape[1] // current.shape[1]
        if versions == 1:
            return edited
        return edited.unflatten(1, (versions, -1)).transpose(0, 1).flatten(0, 1)

    def _once(
        self, images: Tensor, modality: Modality, edits: Edits
    ) -> tuple[Parts, Tensor | None, StageMaps]:
        count = len(images)
        current, features = self.prepare(images), StageMaps(self.to_map)
        for stage in self.stages:
            current = self.run_stage(stage, current, modality)
            features.add(stage, current, count)
            if stage in edits:
                edited = self._edited(stage, features[stage], edits)
                features.replace(stage, edited)
                current, count = self.from_map(edited, current), len(edited)
        return *self.head(current, count), features

    def _edited(self, stage: str, features: Tensor, edits: Edits) -> Tensor:
        edited = edits[stage](features)
        if edited.shape[1:] != features.shape[1:] or len(edited) % len(features) or not len(edited):
            shapes = f"{tuple(features.shape)} into {tuple(edited.shape)}"
            raise BadInput(f"{self.name}: the edit of {stage} changed its shape from {shapes}")
        return edited


def weighted_concatenation(parts: Parts, weights: Mapping[str, float]) -> Tensor:
    """One N x D vector whose dot product is the weighted sum of the named parts' dot products.

    Each part is scaled by the square root of its weight; the order is that of ``weights``.
    """
    return torch.cat([parts[name] * weight**0.5 for name, weight in weights.items()], dim=1)


#: Our names of the trunk's tensors -> released names: each such file contains three whole ResNets.
TRUNK_RENAMES = (
    (r"^trunk\.visible_stem\.", "visible_module.visible."),
    (r"^trunk\.infrared_stem\.", "thermal_module.thermal."),
    (r"^trunk\.(layer\d)\.", r"base_resnet.base.\1."),
)

#: The unused trunk tensors in a released file, as twins of those in use.
TRUNK_TWINS = (
    (r"^(?:visible_module\.visible|thermal_module\.thermal)\.(layer\d)\.", r"base_resnet.base.\1."),
    (r"^base_resnet\.base\.(conv1|bn1)\.", r"visible_module.visible.\1."),
)


class TwoStreamTrunk(ResidualStages):
    """ResNet-50 with a stem per modality and shared stages; arguments as of :class:`ResidualStages`."""

    visible_stem: Stem
    infrared_stem: Stem

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


@dataclass(kw_only=True, eq=False, repr=False)
class ResidualVictim(StagedVictim):
    """The options of a ResNet-50, with which the subclass makes ``self.trunk``."""

    num_classes: int = 395
    input_size: tuple[int, int] = (288, 144)
    width: float = 1.0
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    block: str = "bottleneck"
    small_stem: bool = False
    embedding: str = "neck"
    flip: bool = False
    generator: InitVar[torch.Generator | None] = None

    imagenet = "resnet50"
    #: Options of the thin network, which trains in two or three minutes on two CPU cores.
    THIN: ClassVar[dict[str, Any]] = THIN_RESIDUAL_OPTIONS
    #: The published settings, for full width, and those chosen for two CPU cores.
    full_recipe: ClassVar[Recipe] = PUBLISHED_TWO_STREAM
    thin_recipe: ClassVar[Recipe] = THIN_RESIDUAL

    def __post_init__(self, generator: torch.Generator | None) -> None:
        self.width, self.blocks = float(self.width), tuple(self.blocks)
        self.small_stem = bool(self.small_stem)
        super().__post_init__(generator)

    def start_from(self, state: Mapping[str, Tensor], where: str) -> None:
        """Fill the trunk from a ResNet-50, each stem from its single stem."""
        assert isinstance(self.trunk, ResidualStages), "the subclass makes it"
        fill_residual(self.trunk, state, where)

    def recipe(self) -> Recipe:
        """The published settings at full width, otherwise settings chosen for two CPU cores."""
        return self.full_recipe if self.width >= 1 else self.thin_recipe


class TwoStreamVictim(ResidualVictim):
    """A ResNet-50 with a stem per modality."""

    def _build(self) -> None:
        self.trunk = TwoStreamTrunk(
            self.width, self.blocks, self.small_stem, self.block, len(self.stages) - 1
        )

    def run_stage(self, stage: str, current: Tensor, modality: Modality) -> Tensor:
        """The stem of the modality, or a stage that both share."""
        return self.trunk.stem(current, modality) if stage == "stem" else self.shared_stage(stage, current)

    def shared_stage(self, stage: str, current: Tensor) -> Tensor:
        """One of ``layer1`` ... ``layer4`` with its added blocks; the same for both modalities."""
        return self.trunk.stage(stage, current)

    def joint_map(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Last map of a training batch of images in [0, 1], visible rows first.

        Both modalities go through the shared stages as one batch, so batch statistics are over both.
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
    """Indices of the last ``added[stage]`` residual blocks of each stage, fewer if it has fewer."""
    counts = dict(zip(STAGES, blocks, strict=True))
    return {
        stage: range(counts[stage] - min(wanted, counts[stage]), counts[stage])
        for stage, wanted in added.items()
    }
