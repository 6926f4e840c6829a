"""Checks of a suite that build attacks and look at files; imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vbench.attacks.build import build_attack
from vbench.attacks.build import expand as expand_attacks
from vbench.core.errors import BadInput
from vbench.core.files import split_entry
from vbench.core.threat import ThreatModel
from vbench.data.base import is_synthetic
from vbench.data.open import check_root, reader_of
from vbench.data.protocols import LAYOUTS, SYNTHETIC
from vbench.records.spec import DataSpec
from vbench.run.prepare import open_named
from vbench.sweep.read import Place, SuiteFile
from vbench.sweep.suite import VictimEntry
from vbench.sweep.tasks import anchored, groups, models
from vbench.victims.build import read_victim


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
        if model.weights is None and not synthetic:
            yield f"victim '{model.victim}' has no weights for {data.label} ({data.protocol})"
        elif model.weights is not None and not split_entry(model.weights)[0].is_file():
            yield f"no checkpoint at {model.weights}"
