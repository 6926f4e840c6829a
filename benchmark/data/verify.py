"""Check that a copy of a data set is complete and readable."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from vbench.core.errors import BadInput
from vbench.core.progress import track
from vbench.core.types import Modality
from vbench.data import llcm, regdb, sysu
from vbench.data.base import DatasetReader, Sample, is_synthetic
from vbench.data.images import Unreadable, open_rgb, whole_files_only
from vbench.data.lists import absence_notes, one_sided_note, read_folders, read_ids, stray_note
from vbench.data.open import check_root, read_with, reader_of


@dataclass
class Inventory:
    """``samples``: each image once. ``counts``: what is counted -> how many, under the names of
    ``DatasetReader.published`` where those apply. ``cameras``: (split, camera folder or modality) -> images.
    """

    samples: list[Sample] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    cameras: dict[tuple[str, str], int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def list_sysu(root: Path) -> Inventory:
    """List SYSU-MM01; raises :class:`BadInput` for a broken split file."""
    ids = sysu.read_identities(root)
    found = Inventory()
    strays: list[str] = []
    by_split = {}
    for kind, pids in (("training", ids.train), ("test", ids.test)):
        shots = read_folders(root, pids, sysu.CAMERAS)
        by_split[kind] = shots
        found.samples += shots.samples
        strays += shots.strays
        found.counts[f"{kind} identities"] = len(pids)
        _count_modalities(found, kind, shots.samples)
        found.notes += absence_notes(kind, pids, sysu.CAMERAS, shots.samples)
        for camera in sysu.CAMERAS:
            number = sum(sample.cam == camera.number for sample in shots.samples)
            found.cameras[kind, camera.folder] = number
    test = by_split["test"]
    visible = [group for group in test.groups if group[0].modality is Modality.VISIBLE]
    found.counts["queries, all-search"] = found.counts["test images, infrared"]
    found.counts["gallery, all-search single-shot"] = len(visible)
    found.notes += stray_note(strays)
    _check_permutations(root, ids.test, test.samples, found)
    return found


def list_regdb(root: Path) -> Inventory:
    """List RegDB, all ten splits; missing or broken lists are reported in ``problems``, not raised."""
    found = Inventory()
    seen: dict[str, Sample] = {}
    for trial in range(1, 11):
        try:
            lists = regdb.read_lists(root, trial)
        except BadInput as error:
            found.problems.append(str(error))
            continue
        counts = {}
        for (split, modality), lines in lists.items():
            kind = "training" if split == "train" else "test"
            counts[f"{kind} images, {modality.value}"] = len(lines)
            labels = {line.label for m in Modality for line in lists[split, m]}
            counts[f"{kind} identities"] = len(labels)
            found.cameras[f"trial {trial}, {kind}", modality.value] = len(lines)
            for line in lines:
                sample = Sample(line.path, line.label, regdb.CAMERA[modality], modality)
                seen.setdefault(line.path, sample)
        found.problems += [
            f"trial {trial}: {name} is {number}, but {found.counts[name]} in the trials before"
            for name, number in counts.items()
            if found.counts.setdefault(name, number) != number
        ]
    found.samples = list(seen.values())
    return found


def list_llcm(root: Path) -> Inventory:
    """List LLCM; raises :class:`BadInput` for a broken list."""
    pids = read_ids(root, llcm.TEST_IDS)
    lists = llcm.read_train(root)
    test = llcm.read_test(root, pids)
    llcm.refuse_leak(root, lists, test)
    train = llcm.train_samples(lists, pids)
    found = Inventory()
    found.samples = [sample for samples in train.values() for sample in samples]
    found.counts["training identities"] = len({sample.pid for sample in found.samples})
    _count_modalities(found, "training", tuple(found.samples))
    found.counts["test identities"] = len(pids)
    found.notes += one_sided_note("training", *train.values())
    for modality, samples in train.items():
        found.cameras["training", modality.value] = len(samples)
    for modality, shots in test.items():
        found.samples += shots.samples
        cameras = llcm.CAMERAS[modality]
        found.notes += absence_notes("test", pids, cameras, shots.samples)
        for camera in cameras:
            number = sum(sample.cam == camera.number for sample in shots.samples)
            found.cameras["test", camera.folder] = number
    _count_modalities(found, "test", tuple(s for shots in test.values() for s in shots.samples))
    found.notes += stray_note([stray for shots in test.values() for stray in shots.strays])
    return found


def _count_modalities(found: Inventory, kind: str, samples: tuple[Sample, ...]) -> None:
    for modality in Modality:
        number = sum(sample.modality is modality for sample in samples)
        found.counts[f"{kind} images, {modality.value}"] = number


def _check_permutations(
    root: Path, pids: tuple[int, ...], samples: tuple[Sample, ...], found: Inventory
) -> None:
    if not (root / sysu.FILE).is_file():
        found.notes.append(f"{sysu.FILE} is not there: the randperm10 protocols cannot be used")
        return
    visible = [camera.number for camera in sysu.CAMERAS if camera.modality is Modality.VISIBLE]
    try:
        _, notes = sysu.read_galleries(root, pids, visible, sys.maxsize, samples)
    except BadInput as error:
        found.problems.append(str(error))
    else:
        found.problems += notes


def list_any(reader: DatasetReader, root: Path) -> Inventory:
    """Every image that a protocol of ``reader`` uses; counts are those of the default protocol."""
    found = Inventory()
    seen: dict[str, Sample] = {}
    for protocol in reader.protocols:
        dataset = read_with(reader, root, protocol)
        lists = {
            "training": (*dataset.train_visible, *dataset.train_infrared),
            "test": (*dataset.query, *dataset.gallery),
        }
        for kind, samples in lists.items():
            seen.update((sample.path, sample) for sample in samples)
            if protocol == reader.protocols[0]:
                found.counts[f"{kind} identities"] = len({sample.pid for sample in samples})
                _count_modalities(found, kind, samples)
    found.samples = list(seen.values())
    return found


_INVENTORIES = {"sysu": list_sysu, "regdb": list_regdb, "llcm": list_llcm}

_PORTION = 256


@dataclass(frozen=True)
class Count:
    """A count of this copy; ``known`` is the published number, None if there is none to compare with."""

    name: str
    found: int
    known: int | None = None

    @property
    def agrees(self) -> bool:
        """Whether the count equals the published one, or there is none."""
        return self.known is None or self.found == self.known


@dataclass(frozen=True)
class Report:
    """The result of :func:`verify`.

    ``cameras``: (split, camera folder or modality) -> number of images. ``missing``: listed images that are
    not on disk. ``unreadable``: (path, reason) of files that do not decode. Paths are relative to ``root``.
    ``problems``: one line for each defect, including missing and unreadable images. ``notes``: unusual but
    allowed facts, such as an identity that a camera never saw.
    """

    name: str
    root: Path
    synthetic: bool
    counts: tuple[Count, ...]
    cameras: dict[tuple[str, str], int]
    missing: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True when nothing is wrong with this copy."""
        return not self.problems


def verify(name: str, root: Path, quiet: bool = False) -> Report:
    """Count, find and decode every image of the data set ``name`` under ``root``.

    Counts are compared with the published ones unless the data is synthetic. Raises :class:`BadInput` for
    an unknown name, a missing folder, or a split file too broken to say which images there should be.
    """
    reader = reader_of(name)
    root = check_root(name, Path(root), reader.expected)
    synthetic = is_synthetic(root)
    found = _INVENTORIES[name](root) if name in _INVENTORIES else list_any(reader, root)
    known = {} if synthetic else reader.published
    counts = tuple(Count(name, number, known.get(name)) for name, number in found.counts.items())
    missing, unreadable = _decode_all(found, root, quiet)
    problems = [*found.problems, *_disagreements(counts)]
    problems += [f"{path}: missing" for path in missing]
    problems += [f"{path}: {why}" for path, why in unreadable]
    if not found.samples:
        problems.append("no image at all")
    return Report(
        name=reader.name,
        root=root,
        synthetic=synthetic,
        counts=counts,
        cameras=found.cameras,
        missing=tuple(missing),
        unreadable=tuple(unreadable),
        problems=tuple(problems),
        notes=tuple(found.notes),
    )


def _disagreements(counts: tuple[Count, ...]) -> list[str]:
    return [
        f"{count.name}: {count.found}, but the published set has {count.known}"
        for count in counts
        if not count.agrees
    ]


def _decode_all(found: Inventory, root: Path, quiet: bool) -> tuple[list[str], list[tuple[str, str]]]:
    missing: list[str] = []
    unreadable: list[tuple[str, str]] = []
    outcomes = track(_attempts(found.samples, root), "reading images", total=len(found.samples), quiet=quiet)
    for sample, why in outcomes:
        if why == "missing":
            missing.append(sample.path)
        elif why is not None:
            unreadable.append((sample.path, why))
    return missing, unreadable


def _attempts(samples: list[Sample], root: Path) -> Iterator[tuple[Sample, str | None]]:
    def attempt(sample: Sample) -> str | None:
        try:
            open_rgb(root / sample.path)
        except Unreadable as error:
            return str(error)
        return None

    with whole_files_only(), ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(samples), _PORTION):
            portion = samples[start : start + _PORTION]
            yield from zip(portion, pool.map(attempt, portion), strict=True)
