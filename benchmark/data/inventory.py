"""Every image that a copy of a data set should hold, whether a protocol draws it or not."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from vbench.data import llcm, randperm, regdb, sysu
from vbench.data.base import Sample
from vbench.data.folders import absence_notes, read_folders, stray_note
from vbench.data.labels import one_sided_note
from vbench.data.listings import read_ids
from vbench.errors import BadInput
from vbench.types import Modality


@dataclass
class Inventory:
    """``samples``: each image once. ``counts``: what is counted -> how many, under the names of
    ``KNOWN_COUNTS`` where those apply. ``cameras``: (split, camera folder or modality) -> images.
    """

    samples: list[Sample] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    cameras: dict[tuple[str, str], int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def list_sysu(root: Path) -> Inventory:
    """SYSU-MM01; raises :class:`BadInput` for a broken split file."""
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
    """RegDB, all ten splits; a split whose lists are missing or broken is a problem, not an error."""
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
    """LLCM; raises :class:`BadInput` for a broken list."""
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
    if not (root / randperm.FILE).is_file():
        found.notes.append(f"{randperm.FILE} is not there: the randperm10 protocols cannot be used")
        return
    visible = [camera.number for camera in sysu.CAMERAS if camera.modality is Modality.VISIBLE]
    try:
        _, notes = randperm.read_galleries(root, pids, visible, sys.maxsize, samples)
    except BadInput as error:
        found.problems.append(str(error))
    else:
        found.problems += notes
