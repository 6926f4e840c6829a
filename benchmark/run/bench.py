"""One victim on one dataset: decoded pixels and clean embeddings, computed once for all attacks."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from vbench.attacks.training import ModalityView, TrainingView
from vbench.core.isolation import twin, untouched
from vbench.core.processes import main_first
from vbench.core.types import Modality, Side
from vbench.data.base import Dataset, Sample
from vbench.data.images import Images, data_card
from vbench.metrics import RankMetrics, chance, rank_embeddings
from vbench.records.record import Asked, precision_text
from vbench.victims.base import Victim
from vbench.victims.build import victim_code, victim_label
from vbench.victims.checkpoint import sha256_of
from vbench.victims.embed import Embedded, embed
from vbench.victims.precision import precision_card, take_float32


class Bench:
    """Everything about a (dataset, victim) pair that does not depend on an attack.

    ``cache`` is a folder for decoded images, None for no cache on disk; ``fresh`` ignores its hashes.
    ``batch``: images per process and batch, on which no result depends; None: by the device's memory.
    """

    def __init__(
        self,
        dataset: Dataset,
        victim: Victim,
        cache: Path | None,
        quiet: bool = False,
        fresh: bool = False,
        batch: int | None = None,
    ) -> None:
        self.dataset, self.batch = dataset, batch
        self.victim = victim
        self._cache = cache
        self._quiet = quiet
        self._images = Images(dataset.root, cache, fresh, quiet)
        self._decoded: dict[int, np.ndarray] = {}
        self._cards: dict[bool, dict[str, object]] = {}
        #: How the user named data and victim; set by the caller that opens them.
        self.asked = Asked(weights=True)
        take_float32(victim)

    def with_victim(self, victim: Victim) -> Bench:
        """A bench over the same images for a victim that takes them at the same size."""
        other = Bench(self.dataset, victim, self._cache, self._quiet, batch=self.batch)
        other.asked, other._images, other._decoded = self.asked, self._images, self._decoded
        return other

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
            side: self._embed(pixels, self.modality(side), f"clean {side.value} images")
            for side, pixels in self.pixels.items()
        }

    @cached_property
    def clean_trials(self) -> list[RankMetrics]:
        """Ranking of clean queries against clean galleries, per trial."""
        return self.rank({side: found.embeddings for side, found in self.clean.items()})

    @property
    def training(self) -> TrainingView:
        """Training images of both modalities with labels and clean embeddings; a new copy each time."""
        return TrainingView({modality: self._view(modality, images=True) for modality in Modality})

    def prototypes(self) -> Mapping[Modality, Tensor]:
        """Per modality, C x D centroids of the training set; a new copy at every call."""
        view = TrainingView({modality: self._view(modality, images=False) for modality in Modality})
        return {modality: view.prototypes(modality) for modality in Modality}

    def rank(self, embeddings: Mapping[Side, Tensor]) -> list[RankMetrics]:
        """Rank every trial of the protocol with the given embeddings of both sides."""
        return [
            rank_embeddings(
                embeddings[Side.QUERY][query],
                embeddings[Side.GALLERY][gallery],
                *labels,
                protocol=self.dataset.metric,
                similarity=self.victim.similarity,
            )
            for query, gallery, labels in self._trials
        ]

    @cached_property
    def chance(self) -> dict[str, float]:
        """What a random order of the gallery is expected to reach: metrics of records, mean over trials."""
        found = [chance(*labels, protocol=self.dataset.metric) for _, _, labels in self._trials]
        ranks = {f"r{k}": fmean(one.rank(min(k, len(one.cmc))) for one in found) for k in (1, 5, 10, 20)}
        return {**ranks, "map": fmean(one.mAP for one in found), "minp": fmean(one.mINP for one in found)}

    @cached_property
    def _trials(self) -> list[tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]]:
        """Positions of the queries and of the gallery in their lists; identities of both, cameras of both."""
        lists = {Side.QUERY: self.dataset.query, Side.GALLERY: self.dataset.gallery}
        cams = {side: torch.tensor([sample.cam for sample in samples]) for side, samples in lists.items()}
        found = []
        for trial in self.dataset.trials:
            query, gallery = torch.as_tensor(trial.query), torch.as_tensor(trial.gallery)
            ids = self.ids(Side.QUERY)[query], self.ids(Side.GALLERY)[gallery]
            found.append((query, gallery, (*ids, cams[Side.QUERY][query], cams[Side.GALLERY][gallery])))
        return found

    def data_card(self, training: bool = False) -> dict[str, object]:
        """The part of a configuration that identifies the data; see :func:`vbench.data.images.data_card`.

        Images whose content hash is not known are decoded once, at the victim's input size.
        """
        if training not in self._cards:
            self._cards[training] = data_card(self.dataset, self._hashes, training)
        return self._cards[training]

    def victim_card(self) -> dict[str, object]:
        """The part of a configuration that identifies the victim: name, options, hashes, precision, code."""
        return {
            "name": self.victim.name,
            "options": self.victim.describe(),
            "weights": self.weights_hash,
            "precision": precision_card(self.victim),
            **self._code,
        }

    def victim_label(self) -> str:
        """The victim's name in tables, with its ranking settings and precision if not the defaults."""
        precision, name = precision_text(precision_card(self.victim)), victim_label(self.victim)
        facts = [precision, "" if self.victim.gradients else "no gradients"]
        return f"{name} ({', '.join(filter(None, facts))})" if any(facts) else name

    @cached_property
    def _code(self) -> dict[str, object]:
        return victim_code(self.victim)

    @cached_property
    def weights_hash(self) -> str:
        """16 hexadecimal digits: a hash of the victim's state dict, extra state included."""
        state = self.victim.state_dict()
        return sha256_of({name: _as_tensor(value) for name, value in state.items()})[:16]

    def _load(self, samples: tuple[Sample, ...], label: str) -> np.ndarray:
        with main_first() if self._cache else nullcontext():
            return self._decode(samples, label)

    def _decode(self, samples: Sequence[Sample], label: str) -> np.ndarray:
        # The lists live as long as the dataset, so their ids are unique.
        if id(samples) not in self._decoded:
            size, resize_filter = self.victim.input_size, self.victim.resize_filter
            self._decoded[id(samples)] = self._images.load(samples, size, resize_filter, label)
        return self._decoded[id(samples)]

    def _hashes(self, samples: Sequence[Sample]) -> list[str]:
        # No barrier here, since a single process may call this.
        if self._images.known(samples) is None:
            self._decode(samples, "decoding images")
        return self._images.hashes(samples)

    @cached_property
    def _trained_on(self) -> Mapping[Modality, tuple[tuple[Sample, ...], np.ndarray, Embedded]]:
        """Samples, pixels and clean embeddings of the training images."""
        known = {}
        for modality in Modality:
            visible = modality is Modality.VISIBLE
            samples = self.dataset.train_visible if visible else self.dataset.train_infrared
            what = f"{modality.value} training images"
            pixels = self._load(samples, what)
            known[modality] = samples, pixels, self._embed(pixels, modality, what)
        return known

    def _embed(self, pixels: np.ndarray, modality: Modality, what: str) -> Embedded:
        with untouched(f"victim '{self.victim.name}'", self.victim):
            own = twin(self.victim)
            return embed(own, pixels, modality, what=what, batch=self.batch, quiet=self._quiet)

    def _view(self, modality: Modality, images: bool) -> ModalityView:
        samples, pixels, found = self._trained_on[modality]
        labels, predictions = self.dataset.train_labels, found.predictions
        return ModalityView(
            _channels_first(pixels if images else pixels[:0], found.embeddings.device),
            torch.tensor([labels[sample.pid] for sample in samples]),
            found.embeddings.clone(),
            None if predictions is None else predictions.clone(),
        )


#: Images that :func:`_channels_first` holds twice.
_FEW = 256


def _channels_first(pixels: np.ndarray, device: torch.device) -> Tensor:
    """N x H x W x 3 images as N x 3 x H x W on a device; in main memory if they would fill half of a GPU."""
    count, height, width, channels = pixels.shape
    if device.type == "cuda" and 2 * pixels.nbytes > torch.cuda.mem_get_info(device)[0]:
        device = torch.device("cpu")
    shown = torch.empty((count, channels, height, width), dtype=torch.uint8, device=device)
    for start in range(0, count, _FEW):
        some = torch.from_numpy(np.array(pixels[start : start + _FEW])).to(device)
        shown[start : start + _FEW] = some.permute(0, 3, 1, 2)
    return shown


class SurrogateBench(Bench):
    """A bench for a surrogate with one member; reuses the member's pixels and embeddings.

    ``own`` is the member's bench; ``victim`` wraps the member and gives the same embeddings.
    """

    def __init__(self, own: Bench, victim: Victim) -> None:
        super().__init__(own.dataset, victim, own._cache, own._quiet, batch=own.batch)
        self.asked = own.asked
        self._own = own
        self._images = own._images

    def victim_card(self) -> dict[str, object]:
        # The member computes in its own precision, inside the model that wraps it.
        return {**super().victim_card(), "precision": precision_card(self._own.victim)}

    @property
    def pixels(self) -> Mapping[Side, np.ndarray]:
        return self._own.pixels

    @property
    def clean(self) -> Mapping[Side, Embedded]:
        return self._own.clean

    @property
    def _trained_on(self) -> Mapping[Modality, tuple[tuple[Sample, ...], np.ndarray, Embedded]]:
        return self._own._trained_on


def _as_tensor(value: object) -> Tensor:
    """A value of a state dict as a tensor; extra state that is not a tensor as its pickled bytes."""
    if isinstance(value, Tensor):
        return value
    return torch.frombuffer(bytearray(pickle.dumps(value, protocol=4)), dtype=torch.uint8)
