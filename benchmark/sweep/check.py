"""What a suite names, looked at before its runs: attacks, victims, data and files. Imports torch."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from vbench.attacks.base import Attack, Battery, UniversalAttack
from vbench.attacks.build import build_attack
from vbench.attacks.build import expand as expand_attacks
from vbench.attacks.registry import attacks
from vbench.core import __version__
from vbench.core.errors import BadInput, VbenchError
from vbench.core.files import cache_folder, split_entry
from vbench.core.registry import Registry
from vbench.core.settings import parse
from vbench.core.source import code_card
from vbench.core.threat import ThreatModel
from vbench.data.base import SYNTHETIC_MARK, Dataset, is_synthetic
from vbench.data.images import Images, data_card
from vbench.data.open import check_root, reader_of
from vbench.data.protocols import LAYOUTS, SYNTHETIC
from vbench.data.synthetic.embedded import SyntheticSet
from vbench.records.record import IDENTITY
from vbench.records.spec import DataSpec, ModelSpec, RunSpec, Setup, digest
from vbench.run.builtin import thin_path
from vbench.run.execute import looks_at_training
from vbench.run.prepare import Opener, open_named
from vbench.run.session import threat_of
from vbench.sweep.engine import Prepare
from vbench.sweep.read import Place, SuiteFile
from vbench.sweep.suite import VictimEntry
from vbench.sweep.tasks import anchored, groups, models
from vbench.victims.build import read_victim
from vbench.victims.registry import victims


def check_suite(file: SuiteFile, files_are_here: bool = True) -> None:
    """Raise :class:`BadInput`, with lines, for settings, options, budgets and files that a run would refuse.

    ``files_are_here``: False if other hosts, with other disks, may do the runs; then files are not checked.
    """
    file.refuse([*_attacks(file), *_threats(file), *_victims(file)])
    if files_are_here:
        file.refuse(_files(file))


def _attacks(file: SuiteFile) -> Iterator[tuple[Place, str]]:
    for index, entry in enumerate(file.suite.attacks):
        name, settings = entry.spec(file.suite.settings)
        for text in expand_attacks([name]):
            try:
                build_attack(anchored(text, file.folder), settings)
            except BadInput as error:
                yield ("attacks", index), str(error)


def _threats(file: SuiteFile) -> Iterator[tuple[Place, str]]:
    for index, eps in enumerate(file.suite.eps):
        try:
            ThreatModel(eps, file.suite.norm, quantize=file.suite.quantize)
        except BadInput as error:
            yield ("eps", index), str(error).replace("use --no-quantize", "set quantize: false")


def _entries(file: SuiteFile) -> Iterator[tuple[Place, VictimEntry]]:
    for index, entry in enumerate(file.suite.victims):
        yield ("victims", index), entry
    for index, ensemble in enumerate(file.suite.surrogates):
        for at, entry in enumerate(ensemble):
            yield ("surrogates", index, at), entry


def _victims(file: SuiteFile) -> Iterator[tuple[Place, str]]:
    for place, entry in _entries(file):
        for text in entry.texts():
            try:
                read_victim(anchored(text, file.folder))
            except BadInput as error:
                yield place, str(error)


def _files(file: SuiteFile) -> Iterator[tuple[Place, str]]:
    datasets = {group.data: None for group in groups(file.suite, file.folder)}
    labels = [entry.called for entry in file.suite.datasets]
    for data in datasets:
        synthetic = data.dataset == SYNTHETIC
        if data.root is not None:
            try:
                synthetic = _is_synthetic(data, Path(data.root))
            except BadInput as error:
                yield ("datasets", labels.index(data.label), "root"), str(error)
                continue
        for place, entry in _entries(file):
            yield from ((place, reason) for reason in _weights(entry, data, file.folder, synthetic))


def _is_synthetic(data: DataSpec, root: Path) -> bool:
    """Whether the data in ``root`` are synthetic; raises :class:`BadInput` if they are not this data set."""
    if data.dataset in LAYOUTS:  # a marker file says so, without reading the set
        return is_synthetic(check_root(data.dataset, root, reader_of(data.dataset).expected))
    return open_named(data.dataset, root, data.protocol or None).synthetic


def _weights(entry: VictimEntry, data: DataSpec, folder: Path, synthetic: bool) -> Iterator[str]:
    for model in models(entry, data, folder):
        if not model.is_trained and not synthetic:
            yield f"victim '{model.victim}' has no weights for {data.label} ({data.protocol})"
        elif model.weights is not None and not split_entry(model.weights)[0].is_file():
            yield f"no checkpoint at {model.weights}"


class Inputs:
    """The inputs of tasks, each looked at once, without opening a victim.

    These are listings of data sets, bytes of checkpoints and code of plugins.
    """

    def __init__(self) -> None:
        self._attack, self._code, self._hash = cache(_attack), cache(_code), cache(_hash)
        self._open, self._card = cache(_open), cache(self._card_of)
        self._thin_path = cache(self._thin_path_of)

    def identity(self, task: RunSpec) -> str | None:
        """A hash over the task, its data, checkpoints and code; None if one of them is missing.

        These determine the record id, so tasks with equal hashes have equal records.
        """
        data, used = task.group.data, task.group.models
        try:
            dataset = self._dataset(data)
            if dataset is None:
                return None
            training = looks_at_training(self._attack(task.attack, task.settings))
            card = self._card(data, training)
            weights = [self._hash(model.weights) for model in used]
            code = [self._code(attacks, task.attack), *(self._code(victims, one.victim) for one in used)]
        except (VbenchError, OSError):
            # The worker that opens it reports the error.
            return None
        # The training identities decide whether a victim may run, even if no attack uses them.
        trained = [[one.path, one.pid] for one in (*dataset.train_visible, *dataset.train_infrared)]
        return digest([IDENTITY, __version__, task.key, card, trained, weights, code])

    def grouped(self, tasks: Iterable[RunSpec]) -> dict[Hashable, list[list[RunSpec]]]:
        """Tasks by victim, surrogates and split of the data; in lists of tasks that share a fit.

        A task that learns nothing shares its list only with the same task in other words.
        """
        found: dict[Hashable, dict[Hashable, list[RunSpec]]] = {}
        for task in tasks:
            group, fit = self._shares(task)
            found.setdefault(group, {}).setdefault(fit, []).append(task)
        return {group: list(lists.values()) for group, lists in found.items()}

    def _shares(self, task: RunSpec) -> tuple[Hashable, Hashable]:
        data = task.group.data
        try:
            attack, dataset = self._attack(task.attack, task.settings), self._dataset(data)
            threat = threat_of(task).card()
        except (VbenchError, OSError):
            # The worker that opens it reports the error.
            return task.group, task
        group = replace(task.group, data=replace(data, protocol=dataset.split)) if dataset else task.group
        learns = isinstance(attack, UniversalAttack | Battery)
        fit = {**threat, "side": None} if learns else {**threat, "protocol": data.protocol}
        return group, repr((attack.name, attack.settings(), fit, task.seed))

    def unprepared(self, setups: Iterable[Setup]) -> dict[Prepare, list[Setup]]:
        """Synthetic sets to write and thin victims to train, each once, with the setups that need it.

        Victims are only told once their set is written.
        """
        found: dict[Hashable, tuple[Prepare, list[Setup]]] = {}
        for setup in setups:
            data = setup.data
            if not _is_written(data):
                found.setdefault(_synthetic_set(data), (Prepare(data), []))[1].append(setup)
                continue
            for model in setup.models:
                path = self._thin_path(data, model)
                if path is not None and not path.is_file():
                    found.setdefault(path, (Prepare(data, model), []))[1].append(setup)
        return dict(found.values())

    def _thin_path_of(self, data: DataSpec, model: ModelSpec) -> Path | None:
        if model.is_trained:
            return None
        try:
            dataset = self._open(data)
            size = data.size or SyntheticSet().size
            victim = read_victim(model.victim)
            return thin_path(victim, dataset, cache_folder(), size) if dataset.synthetic else None
        except (VbenchError, OSError):
            return None

    def _dataset(self, data: DataSpec) -> Dataset | None:
        """The dataset; None for a synthetic set that is not written yet."""
        return self._open(data) if _is_written(data) else None

    def _card_of(self, data: DataSpec, training: bool) -> dict[str, object]:
        """The card of a dataset; reads images that are new or were changed."""
        dataset = self._open(data)
        images = Images(dataset.root, cache_folder() / "images", quiet=True)
        return data_card(dataset, images.hashes, training)


def _open(data: DataSpec) -> Dataset:
    return Opener(Setup(data, ModelSpec(""))).open(cache_folder(), quiet=True)


def _attack(name: str, settings: tuple[tuple[str, Any], ...]) -> Attack:
    return build_attack(name, dict(settings))


def _code(registry: Registry, text: str) -> dict[str, object]:
    return code_card(registry.load(parse(text, registry.kind)[0]))


def _hash(weights: str | None) -> str:
    if weights is None:
        return "thin"
    path, entry = split_entry(weights)
    return hashlib.sha256(path.read_bytes()).hexdigest() + (f"::{entry}" if entry else "")


def _is_written(data: DataSpec) -> bool:
    """Whether the data exist: a synthetic set is written on first use."""
    synthetic = _synthetic_set(data)
    return synthetic is None or (synthetic.folder(cache_folder()) / SYNTHETIC_MARK).is_file()


def _synthetic_set(data: DataSpec) -> SyntheticSet | None:
    """The built-in synthetic set of ``data``; None for other data sets."""
    if data.dataset != SYNTHETIC:
        return None
    return SyntheticSet(layout=data.layout, size=data.size or SyntheticSet().size)
