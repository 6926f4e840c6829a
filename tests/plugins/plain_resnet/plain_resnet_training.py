# plain_resnet_training.py
"""What a victim adds to be trained by vbench: a recipe, its losses, and (optionally) a thin variant."""

from typing import ClassVar

import torch
from plain_resnet import PlainResNet
from torch.nn.functional import cross_entropy

from vbench import Modality
from vbench.victims import Recipe, TrainBatch, build_then_initialise


class TrainablePlainResNet(PlainResNet):
    THIN: ClassVar = {"input_size": (64, 32)}

    def __init__(self, *, num_classes=395, input_size=(128, 64), generator=None) -> None:
        super().__init__(num_classes=num_classes, input_size=input_size)
        # Starting weights from the generator given, not from torch's global one: same seed, same weights.
        build_then_initialise(lambda: None, self, generator)

    def recipe(self) -> Recipe:
        return Recipe(
            epochs=10, identities=8, instances=2, learning_rate=3e-3, warmup_epochs=2, validation=0.1
        )

    def training_losses(self, batch: TrainBatch) -> dict[str, torch.Tensor]:
        visible = self(batch.visible, Modality.VISIBLE).logits
        infrared = self(batch.infrared, Modality.INFRARED).logits
        logits, labels = torch.cat((visible, infrared)), torch.cat((batch.labels, batch.labels))
        return {"identity": cross_entropy(logits, labels, label_smoothing=batch.label_smoothing)}
