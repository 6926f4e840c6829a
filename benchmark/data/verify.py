"""Checking a copy of a data set: how much is there, what is missing, what cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vbench.data.base import Sample
from vbench.data.decode import Unreadable, open_rgb, whole_files_only
from vbench.data.inventory import Inventory, list_llcm, list_regdb, list_sysu
from vbench.data.known import KNOWN_COUNTS
from vbench.data.open import check_root, is_synthetic
from vbench.progress import track

_INVENTORIES = {"sysu": list_sysu, "regdb": list_regdb, "llcm": list_llcm}
_PORTION = 256


@dataclass(frozen=True)
class Count:
    """``found`` of something; ``known`` is the published figure, None where there is none to compare with."""

    name: str
    found: int
    known: int | None = None

    @property
    def agrees(self) -> bool:
        """Whether the figure is the published one, or has none to agree with."""
        return self.known is None or self.found == self.known


@dataclass(frozen=True)
class Report:
    """What :func:`verify` found.

    ``cameras``: (split, camera folder or modality) -> images. ``missing``: listed images that are not on
    disk. ``unreadable``: (path, why) of files that do not decode. Paths are relative to ``root``.
    ``problems``: one line for everything that makes this copy unfit, images included. ``notes``: what is
    odd but allowed, such as an identity that a camera never saw.
    """

    layout: str
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


def verify(layout: str, root: Path, quiet: bool = False) -> Report:
    """Count, find and decode every image of the data set under ``root``.

    Counts are compared with the published ones unless the data is synthetic. Raises :class:`BadInput` for
    an unknown layout, a missing folder, or a split file too broken to say which images there should be.
    """
    root = check_root(layout, root)
    synthetic = is_synthetic(root)
    found = _INVENTORIES[layout](root)
    known = {} if synthetic else KNOWN_COUNTS[layout]
    counts = tuple(Count(name, number, known.get(name)) for name, number in found.counts.items())
    missing, unreadable = _decode_all(found, root, quiet)
    problems = [*found.problems, *_disagreements(counts)]
    problems += [f"{path}: missing" for path in missing]
    problems += [f"{path}: {why}" for path, why in unreadable]
    if not found.samples:
        problems.append("no image at all")
    return Report(
        layout=layout,
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
