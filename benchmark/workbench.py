"""One victim on one dataset: pixels decoded once, clean embeddings computed once, shared by all attacks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vbench.attacks.training_view import ModalityView, TrainingView
from vbench.data.base import Dataset, Sample
from vbench.data.card import data_card
from vbench.data.images import load_images
from vbench.embed import Embedded, embed
from vbench.metrics import RankMetrics, rank_embeddings
from vbench.parallel.group import one_first
from vbench.precision import precision_card, take_float32
from vbench.record import Asked, precision_text
from vbench.types import Modality, Side
from vbench.victim_spec import label
from vbench.victims.base import Victim
from vbench.victims.checkpoint import sha256_of


class Workbench:
    """Everything about a (dataset, victim) pair that does not depend on an attack.

    ``cache`` is a folder for decoded images, None for no cache on disk.
    """

    def __init__(self, dataset: Dataset, victim: Victim, cache: Path | None, quiet: bool = False) -> None:
        self.dataset = dataset
        self.victim = victim
        self._cache = cache
        self._quiet = quiet
        #: Whoever opens the data and loads the victim says how they were named.
        self.asked = Asked(weights=True)
        take_float32(victim)

    @cached_property
    def pixels(self) -> Mapping[Side, np.ndarray]:
        """uint8 N x H x W x 3 images of the query list and of the union of all galleries."""
        lists = {Side.QUERY: self.dataset.query, Side.GALLERY: self.dataset.gallery}
        return {side: self._load(samples, f"{side.value} images") for side, samples in lists.items()}

    def modality(self, side: Side) -> Modality:
        """Modality of the images of a side."""
        return self.dataset.query_modality if side is Side.QUERY else self.dataset.gallery_modality

    def ids(self, side: Side) -> Tensor:
        """Identity of every image of a side."""
        return self._ids[side]

    @cached_property
    def _ids(self) -> Mapping[Side, Tensor]:
        lists = {Side.QUERY: self.dataset.query, Side.GALLERY: self.dataset.gallery}
        return {side: torch.tensor([sample.pid for sample in samples]) for side, samples in lists.items()}

    @cached_property
    def clean(self) -> Mapping[Side, Embedded]:
        """Clean embeddings of both sides."""
        return {
            side: embed(
                self.victim,
                pixels,
                self.modality(side),
                what=f"clean {side.value} images",
                quiet=self._quiet,
            )
            for side, pixels in self.pixels.items()
        }

    @cached_property
    def clean_trials(self) -> list[RankMetrics]:
        """Ranking of clean queries against clean galleries, per trial."""
        return self.rank({side: found.embeddings for side, found in self.clean.items()})

    @cached_property
    def training(self) -> TrainingView:
        """Training images of both modalities with labels and clean embeddings."""
        lists = {
            Modality.VISIBLE: self.dataset.train_visible,
            Modality.INFRARED: self.dataset.train_infrared,
        }
        return TrainingView({modality: self._view(modality, samples) for modality, samples in lists.items()})

    def rank(self, embeddings: Mapping[Side, Tensor]) -> list[RankMetrics]:
        """Rank every trial of the protocol with the given embeddings of both sides."""
        cams = {
            Side.QUERY: torch.tensor([sample.cam for sample in self.dataset.query]),
            Side.GALLERY: torch.tensor([sample.cam for sample in self.dataset.gallery]),
        }
        ids = self._ids
        results = []
        for trial in self.dataset.trials:
            query, gallery = torch.as_tensor(trial.query), torch.as_tensor(trial.gallery)
            results.append(
                rank_embeddings(
                    embeddings[Side.QUERY][query],
                    embeddings[Side.GALLERY][gallery],
                    ids[Side.QUERY][query],
                    ids[Side.GALLERY][gallery],
                    cams[Side.QUERY][query],
                    cams[Side.GALLERY][gallery],
                    protocol=self.dataset.metric,
                    similarity=self.victim.similarity,
                )
            )
        return results

    def chance_rank1(self) -> float:
        """Rank-1 of a random ranking: the mean share of a query's identity in its gallery."""
        shares = []
        for trial in self.dataset.trials:
            gallery = self.ids(Side.GALLERY)[torch.as_tensor(trial.gallery)]
            query = self.ids(Side.QUERY)[torch.as_tensor(trial.query)]
            counts = torch.bincount(gallery, minlength=int(query.max()) + 1)
            shares.append((counts[query].double() / len(gallery)).mean().item())
        return sum(shares) / len(shares)

    @cached_property
    def data_card(self) -> dict[str, object]:
        """What identifies the data in a configuration: names, protocol, hashes over all sample paths."""
        return data_card(self.dataset)

    def victim_card(self) -> dict[str, object]:
        """What identifies the victim in a configuration: name, options, hash of its weights, precision."""
        return {
            "name": self.victim.name,
            "options": self.victim.describe(),
            "weights": self.weights_hash,
            "precision": precision_card(self.victim),
        }

    def victim_label(self) -> str:
        """What a table calls the victim: its name, settings of its ranking and precision, if not default."""
        precision, name = precision_text(precision_card(self.victim)), label(self.victim)
        return f"{name} ({precision})" if precision else name

    @cached_property
    def weights_hash(self) -> str:
        """Sixteen hexadecimal digits over the victim's weights."""
        return sha256_of(self.victim.state_dict())[:16]

    def _load(self, samples: tuple[Sample, ...], label: str) -> np.ndarray:
        with one_first() if self._cache else nullcontext():
            return load_images(
                samples,
                self.dataset.root,
                self.victim.input_size,
                self.victim.resize_filter,
                self._cache,
                label,
                self._quiet,
            )

    def _view(self, modality: Modality, samples: tuple[Sample, ...]) -> ModalityView:
        pixels = self._load(samples, f"{modality.value} training images")
        what = f"{modality.value} training images"
        found = embed(self.victim, pixels, modality, what=what, quiet=self._quiet)
        labels = self.dataset.train_labels
        device = found.embeddings.device
        return ModalityView(
            torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).contiguous().to(device),
            torch.tensor([labels[sample.pid] for sample in samples]),
            found.embeddings,
            found.predictions,
        )


class Wrapped(Workbench):
    """What ``own`` holds, for a victim that wraps its victim and computes the same."""

    def __init__(self, own: Workbench, victim: Victim) -> None:
        super().__init__(own.dataset, victim, own._cache, own._quiet)
        self.asked = own.asked
        self._own = own

    @property
    def pixels(self) -> Mapping[Side, np.ndarray]:
        return self._own.pixels

    @property
    def clean(self) -> Mapping[Side, Embedded]:
        return self._own.clean

    @property
    def training(self) -> TrainingView:
        return self._own.training
