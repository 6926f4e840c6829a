"""Training images in memory, each decoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vbench.data.base import Dataset
from vbench.errors import BadInput


@dataclass(frozen=True)
class TrainImages:
    """Training images of a dataset, in the order of ``train_visible`` and ``train_infrared``.

    ``visible`` and ``infrared`` are N x H x W x 3 uint8 RGB, the labels their int64 identities 0 .. C-1.
    """

    visible: np.ndarray
    infrared: np.ndarray
    visible_labels: np.ndarray
    infrared_labels: np.ndarray

    def __post_init__(self) -> None:
        pairs = (
            ("visible", self.visible, self.visible_labels),
            ("infrared", self.infrared, self.infrared_labels),
        )
        for name, images, labels in pairs:
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
                got = f"{images.dtype} of shape {images.shape}"
                raise BadInput(f"{name} training images must be uint8 of shape (N, H, W, 3), got {got}")
            if len(images) == 0 or len(images) != len(labels):
                raise BadInput(f"{len(images)} {name} training images with {len(labels)} labels")


def load_train_images(
    dataset: Dataset,
    size: Sequence[int],
    resize_filter: str = "lanczos",
    cache_dir: Path | None = None,
    quiet: bool = False,
) -> TrainImages:
    """Decode every training image of ``dataset`` at ``size`` (H, W).

    ``resize_filter`` is the victim's; ``cache_dir`` keeps decoded images between runs.
    """
    from vbench.data.images import load_images

    labels = dataset.train_labels
    height_width = (int(size[0]), int(size[1]))

    def load(samples: Sequence, modality: str) -> np.ndarray:
        label = f"{modality} training images"
        return load_images(samples, dataset.root, height_width, resize_filter, cache_dir, label, quiet)

    return TrainImages(
        visible=load(dataset.train_visible, "visible"),
        infrared=load(dataset.train_infrared, "infrared"),
        visible_labels=np.array([labels[sample.pid] for sample in dataset.train_visible], dtype=np.int64),
        infrared_labels=np.array([labels[sample.pid] for sample in dataset.train_infrared], dtype=np.int64),
    )
