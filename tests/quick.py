"""A data set and weights for runs that take no time: a dozen drawn people, a thin victim nobody trained."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from vbench.data import open_dataset
from vbench.data.base import SYNTHETIC_MARK, Dataset
from vbench.data.synthetic import write_dataset
from vbench.victims.base import Victim, VictimOutput, accepts_generator, option_names
from vbench.victims.build import read_victim
from vbench.victims.checkpoint import write_checkpoint
from vbench.victims.registry import victims

SIZE = (32, 16)
IDS = 6


class Bare(Victim):
    """Coarse pixels: nothing to train, neither classifier nor stages."""

    name, summary, paper, stages = "bare", "coarse pixels", "", ()

    def __init__(self) -> None:
        super().__init__()
        self.input_size, self.embedding_dim, self.num_classes = SIZE, 32, 0
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images, modality, edits=None):
        return VictimOutput(self.scale * nn.functional.avg_pool2d(images.mean(1), 4).flatten(1))


def copy_under_names(source: Dataset, folder: Path) -> None:
    """The images of a set again, under names that only the sample reader of the docs understands."""
    for part, samples in (
        ("train", source.train_visible + source.train_infrared),
        ("test", source.query + source.gallery),
    ):
        for number, sample in enumerate(samples):
            name = f"{sample.pid:04d}_c{sample.cam}_{number:05d}.jpg"
            to = folder / part / sample.modality.value / name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source.root / sample.path, to)


@dataclass(frozen=True)
class Quick:
    """A set in the layout of a real one, and a folder for decoded images."""

    root: Path
    layout: str
    cache: Path

    def weights(
        self, victim: str = "agw", protocol: str | None = None, seed: int = 0, **more: object
    ) -> Path:
        """Weights of an untrained thin victim that fits the set, written on first use."""
        dataset = open_dataset(self.layout, self.root, protocol)
        marks = [victim, dataset.split.replace("/", "-"), str(seed), *map(str, more.values())]
        path = self.cache / f"{'-'.join(marks)}.safetensors"
        if not path.exists():
            write_weights(path, victim, dataset, seed, **more)
        return path

    def arguments(self, runs: Path, root: Path | None = None) -> list[str]:
        """Arguments of ``vbench run`` on the set, or on a copy of it in ``root``."""
        given = {"--victim": "agw", "--weights": self.weights(), "--dataset": self.layout}
        given |= {"--root": root or self.root, "--runs": runs}
        return [str(part) for pair in given.items() for part in pair] + ["--ignore-gates", "--quiet"]


def write_weights(path: Path, victim: str, dataset: Dataset, seed: int = 0, **more: object) -> Path:
    """Write weights of an untrained thin victim, by name or path, for the identities of a set."""
    cls = victims.load(read_victim(victim).name)
    options = {**getattr(cls, "THIN", {}), "input_size": SIZE, "width": 0.125, **more}
    generator = torch.Generator().manual_seed(seed)
    given = {name: value for name, value in options.items() if name in option_names(cls)}
    if accepts_generator(cls):
        given["generator"] = generator
    built = cls(num_classes=len(dataset.train_labels), **given).eval()
    _spread(built, generator)
    facts = {"victim": cls.name, "options": built.describe(), "split": dataset.split}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(path, built.state_dict(), facts)
    return path


def make(folder: Path, layout: str = "sysu", real: bool = False, test_ids: int = 6) -> Quick:
    """Draw the set; a ``real`` one loses the mark by which drawn people are told from photographs."""
    root = write_dataset(layout, folder / layout, IDS, 3, SIZE, test_ids=test_ids, quiet=True)
    if real:
        (root / SYNTHETIC_MARK).unlink()
    return Quick(root, layout, folder / "cache")


def _spread(victim: torch.nn.Module, generator: torch.Generator) -> None:
    # Classifiers start near zero: nothing would have a gradient worth its name.
    with torch.no_grad():
        for name, parameter in victim.named_parameters():
            if "classifier" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
