"""Kept embeddings: every image of both sides, clean and as the victim was shown it, and who ranks whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vbench.kept.container import SIDES, Meta, array, places, read, refusal, write
from vbench.types import SIMILARITIES, Modality, Side

FORMAT = "vbench-kept-embeddings/1"

#: Half precision keeps three digits of a number in this range; others stay in single precision.
_HALF_LARGEST, _HALF_TYPICAL = 3e4, 1e-3


class EmbeddingsMeta(Meta):
    """Header of the file. ``rule``: the ranking rule of the protocol, ``similarity``: that of the victim."""

    rule: str
    similarity: str
    trials: list[str]


@dataclass(frozen=True)
class KeptEmbeddings:
    """Embeddings of one run.

    By side: ``clean`` and ``shown`` N x D float32 (``shown`` is ``clean`` where the side was not attacked),
    ``ids`` and ``cams`` N int32. ``trials``: by name, positions of its queries and of its gallery.
    """

    meta: EmbeddingsMeta
    clean: Mapping[Side, np.ndarray]
    shown: Mapping[Side, np.ndarray]
    ids: Mapping[Side, np.ndarray]
    cams: Mapping[Side, np.ndarray]
    trials: Mapping[str, tuple[np.ndarray, np.ndarray]]

    def modality(self, side: Side) -> Modality:
        """Modality of the images of a side."""
        return self.meta.modality[side]

    def write(self, path: Path) -> None:
        """Write one file, embeddings in half precision where that holds them well."""
        arrays: dict[str, np.ndarray] = {}
        for side in SIDES:
            arrays[f"{side.value}.clean"] = _narrow(self.clean[side])
            if side in self.meta.attacked:
                arrays[f"{side.value}.shown"] = _narrow(self.shown[side])
            arrays[f"{side.value}.ids"] = self.ids[side].astype(np.int32)
            arrays[f"{side.value}.cams"] = self.cams[side].astype(np.int32)
        for number, (query, gallery) in enumerate(self.trials.values()):
            arrays[f"trial.{number}.query"] = query.astype(np.int32)
            arrays[f"trial.{number}.gallery"] = gallery.astype(np.int32)
        write(path, self.meta, arrays)

    @classmethod
    def read(cls, path: Path) -> KeptEmbeddings:
        """Read a file of :meth:`write`; raises BadInput, with the reason, for any other."""
        meta, arrays = read(path, EmbeddingsMeta, FORMAT)
        try:
            return cls._checked(meta, arrays)
        except ValueError as error:
            raise refusal(path, error) from error

    @classmethod
    def _checked(cls, meta: EmbeddingsMeta, arrays: Mapping[str, np.ndarray]) -> KeptEmbeddings:
        if meta.similarity not in SIMILARITIES:
            raise ValueError(f"its similarity is '{meta.similarity[:40]}'")
        clean, shown, ids, cams = {}, {}, {}, {}
        width: int | None = None
        for side in SIDES:
            clean[side] = shown[side] = _wide(arrays, f"{side.value}.clean", (None, width))
            count, width = clean[side].shape
            if side in meta.attacked:
                shown[side] = _wide(arrays, f"{side.value}.shown", (count, width))
            ids[side] = array(arrays, f"{side.value}.ids", ["int32"], (count,))
            cams[side] = array(arrays, f"{side.value}.cams", ["int32"], (count,))
        trials = {
            name: tuple(
                places(arrays, f"trial.{number}.{side.value}", (None,), len(ids[side])) for side in SIDES
            )
            for number, name in enumerate(meta.trials)
        }
        if not trials:
            raise ValueError("it holds no trial")
        return cls(meta, clean, shown, ids, cams, trials)


def _narrow(found: np.ndarray) -> np.ndarray:
    size = np.abs(found)
    typical = float(np.sqrt(np.mean(np.square(found, dtype=np.float64))))
    fits = size.max(initial=0.0) < _HALF_LARGEST and typical > _HALF_TYPICAL
    return found.astype(np.float16 if fits else np.float32)


def _wide(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    return array(arrays, name, ["float16", "float32"], shape).astype(np.float32)
