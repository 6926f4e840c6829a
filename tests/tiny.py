"""A tiny victim with images, training data and contexts to go with it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vbench.attacks.base import Context
from vbench.attacks.training import ModalityView, TrainingView
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.victims.base import Edits, Victim, VictimOutput

SIZE = (16, 8)
CLASSES = 6


class TinyVictim(Victim):
    """Two stems and a shared convolution, with batch norm and dropout; smooth and quick."""

    name = "tiny"
    summary = "a victim for tests"
    paper = ""
    stages = ("stem", "layer1")

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.input_size = SIZE
        self.embedding_dim = 10
        self.num_classes = CLASSES
        generator = torch.Generator().manual_seed(seed)
        self.stems = nn.ModuleDict({m.value: nn.Conv2d(3, 6, 3, stride=2, padding=1) for m in Modality})
        self.norm = nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(0.5)
        self.body = nn.Conv2d(6, 10, 3, padding=1)
        self.classifier = nn.Linear(10, CLASSES, bias=False)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
            self.norm.weight.fill_(1.0)

    def forward(self, images: Tensor, modality: Modality, edits: Edits | None = None) -> VictimOutput:
        self.check_images(images)
        edits = self.check_edits(edits)
        features = {}
        current = torch.tanh(self.norm(self.stems[modality.value](images - 0.5)))
        features["stem"] = current = edits["stem"](current) if "stem" in edits else current
        current = torch.tanh(self.body(self.dropout(current)))
        features["layer1"] = current = edits["layer1"](current) if "layer1" in edits else current
        pooled = current.mean((2, 3))
        return VictimOutput(nn.functional.normalize(pooled, dim=1), self.classifier(pooled), features)


def pixels(count: int, seed: int) -> Tensor:
    """Random 8-bit images, N x 3 x H x W uint8; some values at the ends of the range."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-40, 296, (count, 3, *SIZE), generator=generator)
    return values.clamp(0, 255).to(torch.uint8)


def make_training(victim: Victim, per_identity: int = 3, seed: int = 2) -> TrainingView:
    """A training view of CLASSES identities whose images vary around a mean of their own."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randint(0, 256, (CLASSES, 3, *SIZE), generator=generator)
    views = {}
    for modality in Modality:
        labels = torch.arange(CLASSES).repeat_interleave(per_identity)
        noise = torch.randint(-25, 26, (len(labels), 3, *SIZE), generator=generator)
        stored = (means[labels] + noise).clamp(0, 255).to(torch.uint8)
        dtype = next(victim.parameters()).dtype
        with torch.no_grad():
            output = victim.eval()(stored.to(dtype) / 255, modality)
        views[modality] = ModalityView(stored, labels, output.embedding, output.logits.argmax(1))
    return TrainingView(views)


def first_identity(training: TrainingView) -> TrainingView:
    """The view cut to its first three images of either modality, which show one identity."""
    parts = ((m, training[m]) for m in Modality)
    return TrainingView(
        {m: ModalityView(v.images[:3], v.labels[:3], v.embeddings[:3], None) for m, v in parts}
    )


def make_context(
    victim: Victim,
    images: Tensor,
    modality: Modality,
    threat: ThreatModel | None = None,
    first: int = 0,
    training: TrainingView | None = None,
) -> Context:
    """A context with a seed an image, counted from ``first``."""
    with torch.no_grad():
        output = victim(images, modality)
    predictions = None if output.logits is None else output.logits.argmax(1)
    prototypes = {m: training.prototypes(m) for m in Modality} if training else {}
    seeds = tuple(range(1000 + first, 1000 + first + len(images)))
    return Context(
        threat or ThreatModel("8/255"), seeds, output.embedding, prototypes, predictions=predictions
    )
