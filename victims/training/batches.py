"""P x K batches (P identities, K images each) and augmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vbench.core.errors import BadInput
from vbench.data.base import Dataset


class PairedSampler:
    """Samples batches of ``identities`` x ``instances`` images per modality.

    Row i of both index lists of a batch has the same identity. Identities come from reshuffled rounds, so
    that each appears equally often; images of an identity repeat in a batch only if it has fewer than
    ``instances``. Identities with images in one modality only and those in ``leave_out`` are not used.
    """

    def __init__(
        self,
        visible_labels: np.ndarray,
        infrared_labels: np.ndarray,
        identities: int,
        instances: int,
        leave_out: tuple[int, ...] = (),
    ) -> None:
        shared = np.intersect1d(visible_labels, infrared_labels)
        self.labels = np.setdiff1d(shared, np.array(leave_out, dtype=shared.dtype))
        if len(self.labels) < identities:
            raise BadInput(
                f"a batch needs {identities} identities seen in both modalities, "
                f"the training set has {len(self.labels)}"
            )
        self.identities, self.instances = identities, instances
        self._visible = {label: np.flatnonzero(visible_labels == label) for label in self.labels}
        self._infrared = {label: np.flatnonzero(infrared_labels == label) for label in self.labels}
        counts = [sum(map(len, images.values())) for images in (self._visible, self._infrared)]
        #: Batches per epoch: enough for as many images as the larger modality has.
        self.batches = max(1, math.ceil(max(counts) / (identities * instances)))

    def epoch(self, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(visible indices, infrared indices, labels) of each batch, all of length identities x instances."""
        return [self._batch(labels, rng) for labels in self._identity_rounds(rng)]

    def _identity_rounds(self, rng: np.random.Generator) -> list[np.ndarray]:
        per_round = len(self.labels) // self.identities
        rounds: list[np.ndarray] = []
        while len(rounds) < self.batches:
            shuffled = rng.permutation(self.labels)[: per_round * self.identities]
            rounds.extend(shuffled.reshape(per_round, self.identities))
        return rounds[: self.batches]

    def _batch(
        self, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        visible = np.concatenate([self._draw(self._visible[label], rng) for label in labels])
        infrared = np.concatenate([self._draw(self._infrared[label], rng) for label in labels])
        return visible, infrared, np.repeat(labels, self.instances)

    def _draw(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rng.choice(images, self.instances, replace=len(images) < self.instances)


#: Random erasing of Zhong et al., AAAI 2020: bounds of height over width.
_ERASED_ASPECT = (0.3, 1 / 0.3)


def augment(
    images: Tensor,
    generator: torch.Generator,
    flip: float = 0.5,
    padding: int = 0,
    erasing: float = 0.0,
    erasing_area: tuple[float, float] = (0.02, 0.4),
) -> Tensor:
    """Turn N x H x W x 3 uint8 images into augmented N x 3 x H x W float images in [0, 1].

    Each image is mirrored with probability ``flip``, shifted by up to ``padding`` pixels over a black border,
    and with probability ``erasing`` a rectangle is filled with the image's mean colour; its share of the
    image is within ``erasing_area``. ``generator`` is on the CPU; the input is not changed.
    """
    moved = _flip_and_shift(images, generator, flip, padding)
    floats = moved.permute(0, 3, 1, 2).to(torch.float32).div_(255)
    return _erase(floats, generator, erasing, erasing_area) if erasing > 0 else floats


def _flip_and_shift(images: Tensor, generator: torch.Generator, flip: float, padding: int) -> Tensor:
    count, height, width, _ = images.shape
    mirrored = torch.rand(count, 1, generator=generator) < flip
    shifts = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator)
    columns = torch.arange(width).expand(count, width)
    rows = torch.arange(height) + shifts[0]
    columns = torch.where(mirrored, width - 1 - columns, columns) + shifts[1]
    padded = torch.nn.functional.pad(images, (0, 0, padding, padding, padding, padding))
    index = torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]
    return padded[tuple(part.to(images.device) for part in index)]


def _erase(
    images: Tensor, generator: torch.Generator, probability: float, bounds: tuple[float, float]
) -> Tensor:
    count, _, height, width = images.shape
    draws = torch.rand(5, count, generator=generator)
    area = height * width * (bounds[0] + draws[0] * (bounds[1] - bounds[0]))
    low, high = (math.log(bound) for bound in _ERASED_ASPECT)
    aspect = (low + draws[1] * (high - low)).exp()
    tall = (area * aspect).sqrt().clamp(max=height)
    wide = (area / aspect).sqrt().clamp(max=width)
    top, left = draws[2] * (height - tall), draws[3] * (width - wide)
    inside_rows = _between(torch.arange(height), top, tall)
    inside_columns = _between(torch.arange(width), left, wide)
    chosen = (draws[4] < probability)[:, None, None]
    erased = (inside_rows[:, :, None] & inside_columns[:, None, :] & chosen)[:, None].to(images.device)
    return torch.where(erased, images.mean(dim=(2, 3), keepdim=True), images)


def _between(positions: Tensor, start: Tensor, length: Tensor) -> Tensor:
    return (positions >= start[:, None]) & (positions < (start + length)[:, None])


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


#: Red, green and blue weights of a grey image (ITU-R BT.601).
_LUMA = (0.2989, 0.5870, 0.1140)

#: Source of each output channel for every kind of exchange; source 3 is the grey image.
_SOURCES = ((0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3), (0, 1, 2))


def exchange_channels(images: Tensor, shares: Sequence[float], generator: torch.Generator) -> Tensor:
    """Give every image of an N x 3 x H x W batch one of five channel layouts, sampled independently.

    ``shares`` are the probabilities, up to a common factor, of: red in all three channels, green in all,
    blue in all, grey in all, unchanged. ``generator`` is on the CPU; the input is not changed. Raises
    BadInput unless there are five shares, none negative, not all zero. Source: Ye et al., ICCV 2021
    (random channel exchange), with the grey and unchanged images of the released code.
    """
    if len(shares) != len(_SOURCES) or min(shares) < 0 or sum(shares) <= 0:
        raise BadInput(f"channel exchange: needs five shares of at least 0, got {tuple(shares)}")
    edges = torch.tensor(shares, dtype=torch.float64).cumsum(0) / sum(shares)
    draws = torch.rand(len(images), dtype=torch.float64, generator=generator)
    kinds = torch.bucketize(draws, edges, right=True)
    sources = torch.tensor(_SOURCES)[kinds].to(images.device)
    weights = images.new_tensor(_LUMA).view(3, 1, 1)
    candidates = torch.cat((images, (images * weights).sum(dim=1, keepdim=True)), dim=1)
    rows = torch.arange(len(images), device=images.device)
    return candidates[rows[:, None], sources]


#: Factors lie within 1 +- this share.
_STRENGTH = 0.3

#: Bounds of the blur's standard deviation and its kernel's radius, in pixels of an image 256 rows high.
_BLUR, _RADIUS, _HEIGHT = (0.1, 3.0), 10, 256


def jitter_or_blur(images: Tensor, generator: torch.Generator) -> Tensor:
    """Change brightness and contrast of one half of N x 3 x H x W images in [0, 1], blur the others.

    The choice for each image, both factors (0.7 to 1.3), their order and the Gaussian's width (0.1 to 3
    pixels at 256 rows, in proportion for other heights) are sampled on the CPU. Returns a new tensor in [0,
    1]. Source: Lu et al., AAAI 2023 (released training transforms).
    """
    draws = torch.rand(5, len(images), 1, 1, 1, generator=generator).to(images.device)
    factors = 1 + _STRENGTH * (2 * draws[:2] - 1)
    bright_first = _contrast(_brightness(images, factors[0]), factors[1])
    contrast_first = _brightness(_contrast(images, factors[1]), factors[0])
    jittered = torch.where(draws[2] < 0.5, bright_first, contrast_first)
    scale = images.shape[2] / _HEIGHT
    deviations = scale * (_BLUR[0] + draws[3] * (_BLUR[1] - _BLUR[0]))
    blurred = blur(images, deviations.flatten(), max(1, round(scale * _RADIUS)))
    return torch.where(draws[4] < 0.5, jittered, blurred)


def blur(images: Tensor, deviations: Tensor, radius: int) -> Tensor:
    """Gaussian blur of N x C x H x W images, image i with ``deviations[i]`` pixels; borders are reflected.

    The kernel reaches ``radius`` pixels to each side, less than H and W.
    """
    count, channels, height, width = images.shape
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    weights = (-0.5 * (offsets / deviations[:, None]).square()).softmax(dim=1)
    kernels = weights.repeat_interleave(channels, dim=0)[:, None, None, :]
    maps = F.pad(images, (radius,) * 4, mode="reflect").flatten(0, 1)[None]
    with torch.autocast(images.device.type, enabled=False):
        rows = F.conv2d(maps, kernels, groups=count * channels)
        both = F.conv2d(rows, kernels.transpose(2, 3), groups=count * channels)
    return both.view(count, channels, height, width)


def _brightness(images: Tensor, factors: Tensor) -> Tensor:
    return (images * factors).clamp(0, 1)


def _contrast(images: Tensor, factors: Tensor) -> Tensor:
    # Infrared images have three equal channels, so their mean is the mean of the grey image.
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + factors * (images - mean)).clamp(0, 1)


def drop_elements(values: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Set a share ``rate`` of the elements to zero and scale up the others, so that the mean does not change.

    ``generator`` is on the device of ``values``; without one, or at rate 0, ``values`` are returned
    unchanged. Source: Srivastava et al., JMLR 2014.
    """
    if generator is None or rate == 0:
        return values
    kept = torch.empty_like(values).bernoulli_(1 - rate, generator=generator)
    return values * kept.div_(1 - rate)


def drop_branches(values: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """The same for whole rows of an N x ... tensor. Source: Huang et al., ECCV 2016 (stochastic depth)."""
    if generator is None or rate == 0:
        return values
    row = values.new_empty((len(values),) + (1,) * (values.ndim - 1))
    return values * row.bernoulli_(1 - rate, generator=generator).div_(1 - rate)


def generator_on(device: torch.device, source: torch.Generator) -> torch.Generator:
    """A generator on ``device`` seeded from ``source``, which advances by one number.

    Sampling masks of the size of all activations on the CPU would take longer than the step on a GPU.
    """
    seed = int(torch.randint(2**62, (), generator=source))
    return torch.Generator(device).manual_seed(seed)
