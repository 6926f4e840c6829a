"""One honest victim, its masked twins, and a data set of images on which the honest one ranks well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny import SIZE, TinyVictim
from torch import Tensor, nn

from vbench.core.types import Modality
from vbench.data.base import Dataset, Sample, Trial
from vbench.run.bench import Bench
from vbench.victims.base import Edits, VictimOutput

IDENTITIES = 40


class Honest(TinyVictim):
    """The tiny victim with one stem for both modalities, so that identities match across them untrained."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.stems["infrared"].load_state_dict(self.stems["visible"].state_dict())

    def forward(self, images: Tensor, modality: Modality, edits: Edits | None = None) -> VictimOutput:
        return super().forward(self.see(images), modality, edits)

    def see(self, images: Tensor) -> Tensor:
        """What a masked twin does to its input first."""
        return images


class Quantised(Honest):
    def see(self, images: Tensor) -> Tensor:
        return (images * 24).round() / 24


class Saturated(Honest):
    def see(self, images: Tensor) -> Tensor:
        return ((images - 0.5) * 400 + 0.5).clamp(0, 1) * 0.3 + 0.35


class Detached(Honest):
    def see(self, images: Tensor) -> Tensor:
        return images.detach()


class Indexed(Honest):
    """A table look-up by argmax: no autograd graph at all."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.register_buffer("levels", torch.linspace(0, 1, 25))

    def see(self, images: Tensor) -> Tensor:
        return self.levels.to(images)[(images[..., None] - self.levels.to(images)).abs().argmin(-1)]


class Shattered(Honest):
    """Rounds going forward, and answers gradients with those of something else."""

    def see(self, images: Tensor) -> Tensor:
        other = (images * 1e4).sin()
        return Quantised.see(self, images) + (other - other.detach())


class Noisy(Honest):
    def forward(self, images: Tensor, modality: Modality, edits: Edits | None = None) -> VictimOutput:
        output = super().forward(images, modality, edits)
        return VictimOutput(output.embedding + 0.1 * torch.randn_like(output.embedding), output.logits)


class DropsOut(Honest):
    def train(self, mode: bool = True) -> DropsOut:
        super().train(mode)
        self.dropout.train()
        return self


class BatchStatistics(Honest):
    def see(self, images: Tensor) -> Tensor:
        return nn.functional.batch_norm(images, None, None, training=True) * 0.1 + 0.5


class Counts(Honest):
    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.register_buffer("seen", torch.zeros(()))

    def see(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return images


class WritesToInput(Honest):
    def see(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return images.mul_(0.9)


class Crops(Honest):
    """Reads no border: its gradient is zero there, and rightly so."""

    def see(self, images: Tensor) -> Tensor:
        inside = images[:, :, 2:-2, 1:-1]
        return nn.functional.pad(inside, (1, 1, 2, 2), value=0.5)


def write_images(root: Path) -> Dataset:
    """A query and two gallery images an identity: coloured blocks of its own, with noise, as PNG files."""
    generator = np.random.default_rng(7)
    samples: dict[Modality, list[Sample]] = {modality: [] for modality in Modality}
    for pid in range(IDENTITIES):
        blocks = np.kron(generator.integers(-50, 51, (4, 2, 3)), np.ones((SIZE[0] // 4, SIZE[1] // 2, 1)))
        for modality, count in ((Modality.INFRARED, 1), (Modality.VISIBLE, 2)):
            for number in range(count):
                noise = generator.integers(-6, 7, (*SIZE, 3))
                path = f"{modality.value}-{pid}-{number}.png"
                Image.fromarray((128 + blocks + noise).astype(np.uint8)).save(root / path)
                samples[modality].append(Sample(path, pid, 1, modality))
    query, gallery = tuple(samples[Modality.INFRARED]), tuple(samples[Modality.VISIBLE])
    trial = Trial("1", np.arange(len(query)), np.arange(len(gallery)))
    return Dataset("tiny", root, "tiny/1", "regdb", "tiny", False, (), (), query, gallery, (trial,))


def workbench(dataset: Dataset, victim: type[Honest]) -> Bench:
    """A victim in double precision over the images."""
    return Bench(dataset, victim().double().eval(), None, quiet=True)
