"""The forward pass that all built-in victims share: stages with edits, a head, mirror averaging."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from vbench.errors import BadInput, unknown_name
from vbench.types import Modality
from vbench.victims.base import Edits, Victim, VictimOutput
from vbench.victims.l2_norm import l2_normalise

Parts = dict[str, Tensor]


class StageMaps(Mapping[str, Tensor]):
    """Stage name -> N x C x h x w map, each made when it is first asked for.

    Stacking versions copies a map, and most callers of a victim never look at one.
    """

    def __init__(self, to_map: Callable[[Tensor, int], Tensor]) -> None:
        self._to_map = to_map
        self._outputs: dict[str, tuple[Tensor, int]] = {}
        self._maps: dict[str, Tensor] = {}

    def add(self, stage: str, output: Tensor, count: int) -> None:
        """Keep a stage's output for ``count`` rows, in the layout the network works on."""
        self._outputs[stage] = output, count

    def replace(self, stage: str, edited: Tensor) -> None:
        """Put an edited map in place of the one of ``stage``."""
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

    A subclass says what a stage and the head compute. Images that it sends on in several versions (a
    generated modality, parallel branches) stand below each other in the batch: version v of image i is row
    ``v * N + i``. To edits and in ``VictimOutput.features`` they are stacked along the channels instead, so
    that row i always belongs to image i.
    """

    #: Whether the embedding of the mirrored image is added, as some authors' test scripts do.
    flip: bool = False
    forks = True

    def forward(self, images: Tensor, modality: Modality, edits: Edits | None = None) -> VictimOutput:
        """Embed N x 3 x H x W images in [0, 1]; see :meth:`Victim.forward`.

        With ``flip`` the features are those of the image as it is, and edits are applied to both passes.
        """
        self.check_images(images)
        edits = self.check_edits(edits)
        parts, logits, features = self._once(images, modality, edits)
        if self.flip:
            mirrored, mirrored_logits, _ = self._once(images.flip(3), modality, edits)
            parts = {name: self.merge_mirrored(part, mirrored[name]) for name, part in parts.items()}
            if logits is not None:
                logits = (logits + mirrored_logits) / 2
        return VictimOutput(self.compose(parts), logits, features, parts)

    @abstractmethod
    def prepare(self, images: Tensor) -> Tensor:
        """What the first stage takes, from images in [0, 1]: normalised, in as many versions as needed."""

    @abstractmethod
    def run_stage(self, stage: str, current: Tensor, modality: Modality) -> Tensor:
        """Output of one stage, given the previous one's; N x C x h x w or a multiple of N rows."""

    @abstractmethod
    def head(self, current: Tensor, count: int) -> tuple[Parts, Tensor | None]:
        """Named vectors of ``count`` images from the last stage's output, and logits (None without any)."""

    @abstractmethod
    def compose(self, parts: Parts) -> Tensor:
        """The N x D embedding that is ranked, from the named vectors."""

    def merge_mirrored(self, part: Tensor, mirrored: Tensor) -> Tensor:
        """One vector of an image and its mirror: their mean, at unit length again."""
        return l2_normalise((part + mirrored) / 2)

    def to_map(self, current: Tensor, count: int) -> Tensor:
        """A stage's output as a map of ``count`` rows; versions become channels."""
        versions = len(current) // count
        if versions == 1:
            return current
        stacked = current.unflatten(0, (versions, count)).transpose(0, 1)
        return stacked.flatten(1, 2)

    def from_map(self, edited: Tensor, current: Tensor) -> Tensor:
        """The inverse of :meth:`to_map`, for a stage whose unedited output is ``current``.

        A map that was forked has a multiple of the rows there.
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

    def _check_options(self, num_classes: int, input_size: Sequence[int], least: int = 16) -> None:
        """Keep the two options that every victim has, refusing senseless ones."""
        if num_classes < 1:
            raise BadInput(f"{self.name}: num_classes must be at least 1, got {num_classes}")
        if len(input_size) != 2 or min(input_size) < least:
            wanted = f"(H, W) of at least {least} pixels"
            raise BadInput(f"{self.name}: input_size must be {wanted}, got {tuple(input_size)}")
        self.num_classes = int(num_classes)
        self.input_size = (int(input_size[0]), int(input_size[1]))

    def _check_choice(self, option: str, value: str, known: Mapping[str, object] | Sequence[str]) -> str:
        """Return ``value`` if it is one of ``known``, else raise :class:`BadInput` with the nearest."""
        if value not in known:
            raise unknown_name(f"{option} of {self.name}", value, known)
        return value


def weighted_concatenation(parts: Parts, weights: Mapping[str, float]) -> Tensor:
    """One N x D vector whose dot product is the weighted sum of the named parts' dot products.

    Each part is scaled by the square root of its weight and stands in the order of ``weights``.
    """
    return torch.cat([parts[name] * weight**0.5 for name, weight in weights.items()], dim=1)
