"""A victim as its user would write it: stages and a classifier of any name, weights of torch's making."""

from __future__ import annotations

from torch import nn

from vbench.victims import Victim, VictimOutput

SIZE = (32, 16)


class Mine(Victim):
    """Two blocks with batch normalisation and a linear classifier called ``head``."""

    name = "mine"
    summary = "a victim of one's own"
    paper = ""
    stages = ("early", "late", "last")

    def __init__(self, *, num_classes: int = 395, width: int = 8) -> None:
        super().__init__()
        self.num_classes, self.width, self.input_size, self.embedding_dim = num_classes, width, SIZE, width
        self.blocks = nn.ModuleDict(
            {
                "early": nn.Sequential(nn.Conv2d(3, width, 3, stride=2), nn.BatchNorm2d(width)),
                "late": nn.Conv2d(width, width, 3, stride=2),
                "last": nn.Conv2d(width, width, 1),
            }
        )
        self.head = nn.Linear(width, num_classes)

    def forward(self, images, modality, edits=None):
        self.check_images(images)
        edits, features, current = self.check_edits(edits), {}, images
        for stage in self.stages:
            current = self.blocks[stage](current).tanh()
            current = features[stage] = edits[stage](current) if stage in edits else current
        pooled = current.mean((2, 3))
        return VictimOutput(nn.functional.normalize(pooled), self.head(pooled), features)
