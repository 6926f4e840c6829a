"""Kept images: a few queries of the first trial, clean and attacked, with the best of their gallery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vbench.kept.container import SIDES, Meta, array, places, read, refusal, write
from vbench.types import Modality, Side

FORMAT = "vbench-kept-images/1"

#: How many queries are kept: those that lose most average precision, and some drawn from the others.
WORST, RANDOM = 4, 4
#: How many gallery images of a ranking are kept; fewer where the gallery is shorter.
DEPTH = 10


class ImagesMeta(Meta):
    """Header of the file.

    ``trial``: whose rankings these are; ``rule``: the protocol's ranking rule; ``chosen``: of each query why
    it is here, "worst" or "random"; ``rounded``: the victim was shown finer pixels than these 8-bit ones.
    """

    rule: str
    trial: str
    chosen: list[str]
    rounded: bool


@dataclass(frozen=True)
class KeptImages:
    """K queries of one run and U gallery images.

    By side: ``clean`` and ``shown`` uint8 N x H x W x 3 (``shown`` is ``clean`` where the side was not
    attacked), ``ids``, ``cams`` and ``position`` (in the data set's list of that side) N int32. ``before``
    and ``after``: K x at most 10 rows of the gallery, best first, without those that the protocol removes.
    ``match``: K, each query's nearest right gallery image before the attack. ``rank`` and ``precision``:
    K x 2, first match as the protocol counts it and average precision, before and after.
    """

    meta: ImagesMeta
    clean: Mapping[Side, np.ndarray]
    shown: Mapping[Side, np.ndarray]
    ids: Mapping[Side, np.ndarray]
    cams: Mapping[Side, np.ndarray]
    position: Mapping[Side, np.ndarray]
    before: np.ndarray
    after: np.ndarray
    match: np.ndarray
    rank: np.ndarray
    precision: np.ndarray

    def modality(self, side: Side) -> Modality:
        """Modality of the images of a side."""
        return self.meta.modality[side]

    def right(self, rows: np.ndarray) -> np.ndarray:
        """For K x n gallery rows: whether each shows the identity of its query."""
        return self.ids[Side.GALLERY][rows] == self.ids[Side.QUERY][:, None]

    def write(self, path: Path) -> None:
        """Write one file."""
        arrays = {name: getattr(self, name).astype(np.int32) for name in ("before", "after", "match", "rank")}
        arrays["precision"] = self.precision.astype(np.float32)
        for side in SIDES:
            arrays[f"{side.value}.clean"] = self.clean[side]
            if side in self.meta.attacked:
                arrays[f"{side.value}.shown"] = self.shown[side]
            for name in ("ids", "cams", "position"):
                arrays[f"{side.value}.{name}"] = getattr(self, name)[side].astype(np.int32)
        write(path, self.meta, arrays)

    @classmethod
    def read(cls, path: Path) -> KeptImages:
        """Read a file of :meth:`write`; raises BadInput, with the reason, for any other."""
        meta, arrays = read(path, ImagesMeta, FORMAT)
        try:
            return cls._checked(meta, arrays)
        except ValueError as error:
            raise refusal(path, error) from error

    @classmethod
    def _checked(cls, meta: ImagesMeta, arrays: Mapping[str, np.ndarray]) -> KeptImages:
        found: dict[str, dict[Side, np.ndarray]] = {
            name: {} for name in ("clean", "shown", "ids", "cams", "position")
        }
        size: tuple[int | None, int | None] = (None, None)
        for side in SIDES:
            clean = array(arrays, f"{side.value}.clean", ["uint8"], (None, *size, 3))
            count, *size = clean.shape[:3]
            found["clean"][side] = found["shown"][side] = clean
            if side in meta.attacked:
                found["shown"][side] = array(arrays, f"{side.value}.shown", ["uint8"], clean.shape)
            for name in ("ids", "cams", "position"):
                found[name][side] = array(arrays, f"{side.value}.{name}", ["int32"], (count,))
        queries, gallery = (len(found["clean"][side]) for side in SIDES)
        if not queries or not gallery or len(meta.chosen) != queries or 0 in size:
            raise ValueError(f"it holds {queries} queries, and says of {len(meta.chosen)} why")
        before = places(arrays, "before", (queries, None), gallery)
        return cls(
            meta,
            **found,
            before=before,
            after=places(arrays, "after", before.shape, gallery),
            match=places(arrays, "match", (queries,), gallery),
            rank=array(arrays, "rank", ["int32"], (queries, 2)),
            precision=array(arrays, "precision", ["float32"], (queries, 2)),
        )
