"""A network and a victim as a user would write them: names of any kind, weights of torch's making."""

from __future__ import annotations

import torch
from torch import nn

from vbench.victims import Victim, VictimOutput

SIZE = (32, 16)


class Net(nn.Module):
    """Two blocks, an average and a classifier that the embedding leaves out."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.blocks = nn.ModuleList([nn.Conv2d(width, 2 * width, 3, 2, 1), nn.Conv2d(2 * width, 12, 1)])
        self.classifier = nn.Linear(12, 5)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x).tanh()
        return x.mean((2, 3))


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
