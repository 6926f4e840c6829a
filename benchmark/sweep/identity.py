"""The identity of a task, from its files and without opening a victim, so that reruns are quick."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from vbench.attacks.build import build_attack
from vbench.attacks.registry import attacks
from vbench.core import __version__
from vbench.core.errors import VbenchError
from vbench.core.files import cache_folder, split_entry
from vbench.core.registry import Registry
from vbench.core.settings import parse
from vbench.core.source import code_card
from vbench.data.base import SYNTHETIC_MARK, Dataset
from vbench.data.images import Images, data_card
from vbench.data.protocols import SYNTHETIC
from vbench.data.synthetic.embedded import SyntheticSet
from vbench.records.record import IDENTITY
from vbench.records.spec import DataSpec, ModelSpec, RunSpec, Setup, digest
from vbench.run.builtin import thin_path
from vbench.run.execute import looks_at_training
from vbench.run.prepare import Opener
from vbench.sweep.engine import Train
from vbench.victims.build import read_victim
from vbench.victims.registry import victims

_CHUNK = 1 << 20


class Identities:
    """Reads the listings of datasets, the bytes of checkpoints and the code of plugins, each once."""

    def __init__(self) -> None:
        self._datasets: dict[DataSpec, Dataset] = {}
        self._cards: dict[tuple[DataSpec, bool], dict[str, object]] = {}
        self._files: dict[str, str] = {}
        self._codes: dict[tuple[str, str], dict[str, object]] = {}

    def of(self, task: RunSpec) -> str | None:
        """A hash over the task, its data, checkpoints and code; None if one of them is missing.

        These determine the record id, so tasks with equal hashes have equal records.
        """
        try:
            dataset = self.dataset(task.group.data)
            if dataset is None:
                return None
            weights = [self._weights(model) for model in task.group.models]
            card = self._card(task, dataset)
            code = [
                self._code(attacks, task.attack),
                *(self._code(victims, m.victim) for m in task.group.models),
            ]
        except (VbenchError, OSError):
            # The worker that opens it reports the error.
            return None
        # The training identities decide whether a victim may run, even if no attack uses them.
        trained = [[one.path, one.pid] for one in (*dataset.train_visible, *dataset.train_infrared)]
        return digest([IDENTITY, __version__, task.key, card, trained, weights, code])

    def _card(self, task: RunSpec, dataset: Dataset) -> dict[str, object]:
        """The card of a task's data; reads images that are new or were changed."""
        training = looks_at_training(build_attack(task.attack, dict(task.settings)))
        key = task.group.data, training
        if key not in self._cards:
            images = Images(dataset.root, cache_folder() / "images", quiet=True)
            self._cards[key] = data_card(dataset, images.hashes, training)
        return self._cards[key]

    def dataset(self, data: DataSpec) -> Dataset | None:
        """The dataset; None for a synthetic set that is not written yet."""
        if data not in self._datasets:
            if not is_written(data):
                return None
            self._datasets[data] = Opener(Setup(data, ModelSpec(""))).open(cache_folder(), quiet=True)
        return self._datasets[data]

    def untrained(self, groups: Iterable[Setup]) -> dict[Train, list[Setup]]:
        """The thin victims that must be trained, each once, with the groups that need it."""
        found: dict[Path, tuple[Train, list[Setup]]] = {}
        for group in groups:
            for model in group.models:
                path = self._thin_path(group.data, model)
                if path is not None and not path.is_file():
                    found.setdefault(path, (Train(group.data, model), []))[1].append(group)
        return dict(found.values())

    def _thin_path(self, data: DataSpec, model: ModelSpec) -> Path | None:
        if model.weights is not None:
            return None
        try:
            dataset = self.dataset(data)
            if dataset is None or not dataset.synthetic:
                return None
            size = data.size or SyntheticSet().size
            return thin_path(read_victim(model.victim), dataset, cache_folder(), size)
        except (VbenchError, OSError):
            return None

    def _code(self, registry: Registry, text: str) -> dict[str, object]:
        if (registry.kind, text) not in self._codes:
            self._codes[registry.kind, text] = code_card(registry.load(parse(text, registry.kind)[0]))
        return self._codes[registry.kind, text]

    def _weights(self, model: ModelSpec) -> str:
        if model.weights is None:
            return "thin"
        if model.weights not in self._files:
            sha = hashlib.sha256()
            path, entry = split_entry(model.weights)
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    sha.update(chunk)
            self._files[model.weights] = sha.hexdigest() + (f"::{entry}" if entry else "")
        return self._files[model.weights]


def is_written(data: DataSpec) -> bool:
    """Whether the data exist: a synthetic set is written on first use."""
    synthetic = synthetic_set(data)
    return synthetic is None or (synthetic.folder(cache_folder()) / SYNTHETIC_MARK).is_file()


def synthetic_set(data: DataSpec) -> SyntheticSet | None:
    """The built-in synthetic set of ``data``; None for other data sets."""
    if data.dataset != SYNTHETIC:
        return None
    return SyntheticSet(layout=data.layout, size=data.size or SyntheticSet().size)
