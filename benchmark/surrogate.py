"""Victims that stand in for the one under attack: what a transfer attack is crafted on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from vbench.resize import RESIZE_POLICY, resize
from vbench.types import Modality
from vbench.victim_spec import label
from vbench.victims.base import Edits, Victim, VictimOutput


class Surrogate(Victim):
    """One or more victims seen as one, at the image size of the victim that will be shown the result.

    Attacks see images of ``input_size``; a member that takes another size gets them resized inside, so that
    gradients pass through. One member keeps its embedding, its similarity and its stages. Several are an
    ensemble: their embeddings at unit length side by side, compared by cosine, and their mean logits; it has
    no stages. ``resize_filter`` is the victim's, since its dataset decodes the images.
    """

    version: ClassVar[int] = 1
    summary = "stands in for the victim"
    paper = ""
    SETTINGS = ()

    def __init__(self, members: Sequence[Victim], input_size: tuple[int, int], resize_filter: str) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.name = "+".join(label(member) for member in members)
        self.input_size = (int(input_size[0]), int(input_size[1]))
        self.resize_filter = resize_filter
        self.embedding_dim = sum(member.embedding_dim for member in members)
        classes = {member.num_classes for member in members}
        self.num_classes = classes.pop() if len(classes) == 1 else 0
        alone = members[0] if len(members) == 1 else None
        self.similarity = alone.similarity if alone else "cosine"
        self.stages = alone.stages if alone else ()
        self.forks = alone.forks if alone else False

    def forward(self, images: Tensor, modality: Modality, edits: Edits | None = None) -> VictimOutput:
        """Embed N x 3 x H x W images in [0, 1] of ``input_size``."""
        self.check_images(images)
        edits = self.check_edits(edits)
        outputs = [member(_at_size_of(member, images), modality, edits) for member in self.members]
        if len(outputs) == 1:
            return outputs[0]
        embedding = torch.cat([normalize(output.embedding, dim=1) for output in outputs], dim=1)
        logits = None
        if self.num_classes:
            logits = torch.stack([output.logits for output in outputs]).mean(dim=0)
        return VictimOutput(embedding, logits)

    def describe(self) -> dict[str, object]:
        """Size, resizing, and each member's options: two settings of one checkpoint are two surrogates."""
        members = [{"name": member.name, **member.describe()} for member in self.members]
        return {"input_size": list(self.input_size), "resize": RESIZE_POLICY, "members": members}


def _at_size_of(member: Victim, images: Tensor) -> Tensor:
    resized = resize(images, member.input_size)
    return resized if resized is images else resized.clamp(0.0, 1.0)
