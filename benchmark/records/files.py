"""Embeddings and images that a run with ``--keep`` stores next to its record."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vbench.core.errors import BadInput, unknown_name
from vbench.core.files import write_atomically
from vbench.core.types import SIMILARITIES, Modality, Side
from vbench.records.record import Record
from vbench.records.store import RunStore

_KEY = "vbench"

#: Both sides of a ranking, in the order in which they are written.
SIDES = (Side.QUERY, Side.GALLERY)


class Meta(BaseModel):
    """Header fields of every kept file.

    ``record``, ``created`` and ``digest`` identify the record of the same run (its id, time and digest);
    ``modality`` is that of each side's images; ``attacked`` are the sides whose images were changed.
    """

    model_config = ConfigDict(extra="forbid")

    format: str
    record: str
    created: str
    digest: str = ""
    modality: dict[Side, Modality]
    attacked: list[Side]

    def check(self, form: str) -> None:
        """Raise ValueError if the format is not ``form``, or a side is missing."""
        if self.format != form:
            raise ValueError(f"its format is '{self.format[:40]}', not '{form}'")
        if set(self.modality) != set(SIDES) or not set(self.attacked) <= set(SIDES):
            raise ValueError("it does not say the modality of both sides")


M = TypeVar("M", bound=Meta)
K = TypeVar("K", bound="_Kept")


def write(path: Path, meta: Meta, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays with a header, atomically; equal content gives equal bytes."""
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_atomically(path, save(whole, {_KEY: meta.model_dump_json()}))


def read_meta(path: Path, model: type[M], form: str) -> M:
    """The header of a file; raises BadInput if it is not of ``form``."""
    return _read(path, model, form, arrays=False)[0]


def refusal(path: Path, reason: object) -> BadInput:
    """The error for a file that is broken or was not written by ``--keep``."""
    first = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
    return BadInput(f"{path} is not what vbench run --keep wrote: {first}")


def array(
    arrays: Mapping[str, np.ndarray], name: str, kinds: Sequence[str], shape: Sequence[int | None]
) -> np.ndarray:
    """An array of one of ``kinds`` (NumPy's names) and of ``shape`` (None: any length).

    Raises ValueError if it is missing, of another kind or shape, or not finite.
    """
    if name not in arrays:
        raise ValueError(f"it holds no '{name}'")
    found = arrays[name]
    fits = found.ndim == len(shape) and all(
        want is None or have == want for have, want in zip(found.shape, shape, strict=True)
    )
    if found.dtype.name not in kinds or not fits:
        wanted = " x ".join("any" if one is None else str(one) for one in shape)
        raise ValueError(
            f"'{name}' is {found.dtype.name} of shape {found.shape}, not {' or '.join(kinds)}, {wanted}"
        )
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise ValueError(f"'{name}' is not finite")
    return found


def places(
    arrays: Mapping[str, np.ndarray], name: str, shape: Sequence[int | None], below: int
) -> np.ndarray:
    """An int32 array of positions in a list of length ``below``; raises ValueError for any outside."""
    found = array(arrays, name, ["int32"], shape)
    if found.size and (found.min() < 0 or found.max() >= below):
        raise ValueError(f"'{name}' points outside a list of {below}")
    return found


def _read(path: Path, model: type[M], form: str, arrays: bool) -> tuple[M, dict[str, np.ndarray]]:
    try:
        with safe_open(path, framework="np") as file:
            meta = model.model_validate_json((file.metadata() or {}).get(_KEY, "null"))
            meta.check(form)
            found = {name: file.get_tensor(name) for name in file.keys()} if arrays else {}  # noqa: SIM118
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "header"
        raise refusal(path, f"{where}: {first['msg']}") from error
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise refusal(path, error) from error
    return meta, found


@dataclass(frozen=True)
class _Kept(ABC):
    """What both kinds of file hold: a header and, by side, what :class:`KeptEmbeddings` says of each."""

    KIND: ClassVar[str]

    meta: Any
    clean: Mapping[Side, np.ndarray]
    shown: Mapping[Side, np.ndarray]
    ids: Mapping[Side, np.ndarray]
    cams: Mapping[Side, np.ndarray]

    def modality(self, side: Side) -> Modality:
        """Modality of the images of a side."""
        return self.meta.modality[side]

    @classmethod
    def read(cls: type[K], path: Path) -> K:
        """Read a file written by ``write``; raises BadInput, with the reason, for any other."""
        meta, arrays = _read(path, *_KINDS[cls.KIND], arrays=True)
        try:
            return cls._checked(meta, arrays)
        except ValueError as error:
            raise refusal(path, error) from error

    @classmethod
    @abstractmethod
    def _checked(cls: type[K], meta: Any, arrays: Mapping[str, np.ndarray]) -> K: ...


EMBEDDINGS_FORMAT = "vbench-kept-embeddings/1"

#: Embeddings in this range (largest and root-mean-square value) are stored in half precision, which keeps
#: three digits; others in single precision.
_HALF_LARGEST, _HALF_TYPICAL = 3e4, 1e-3


class EmbeddingsMeta(Meta):
    """Header of an embeddings file. ``rule``: the protocol's ranking rule; ``similarity``: the victim's."""

    rule: str
    similarity: str
    trials: list[str]


@dataclass(frozen=True)
class KeptEmbeddings(_Kept):
    """Embeddings of one run.

    By side: ``clean`` and ``shown`` N x D float32 (``shown``: of the images that the victim was shown, equal
    to ``clean`` for a side that was not attacked), ``ids`` and ``cams`` N int32. ``trials``: by name,
    positions of its queries and of its gallery.
    """

    KIND = "embeddings"

    meta: EmbeddingsMeta
    trials: Mapping[str, tuple[np.ndarray, np.ndarray]]

    def write(self, path: Path) -> None:
        """Write one file, embeddings in half precision if their range allows it."""
        arrays: dict[str, np.ndarray] = {}
        for side in SIDES:
            arrays[f"{side.value}.clean"] = _compact(self.clean[side])
            if side in self.meta.attacked:
                arrays[f"{side.value}.shown"] = _compact(self.shown[side])
            arrays[f"{side.value}.ids"] = self.ids[side].astype(np.int32)
            arrays[f"{side.value}.cams"] = self.cams[side].astype(np.int32)
        for number, (query, gallery) in enumerate(self.trials.values()):
            arrays[f"trial.{number}.query"] = query.astype(np.int32)
            arrays[f"trial.{number}.gallery"] = gallery.astype(np.int32)
        write(path, self.meta, arrays)

    @classmethod
    def _checked(cls, meta: EmbeddingsMeta, arrays: Mapping[str, np.ndarray]) -> KeptEmbeddings:
        if meta.similarity not in SIMILARITIES:
            raise ValueError(f"its similarity is '{meta.similarity[:40]}'")
        clean, shown, ids, cams = {}, {}, {}, {}
        width: int | None = None
        for side in SIDES:
            clean[side] = shown[side] = _float32(arrays, f"{side.value}.clean", (None, width))
            count, width = clean[side].shape
            if side in meta.attacked:
                shown[side] = _float32(arrays, f"{side.value}.shown", (count, width))
            ids[side] = array(arrays, f"{side.value}.ids", ["int32"], (count,))
            cams[side] = array(arrays, f"{side.value}.cams", ["int32"], (count,))
        trials = {
            name: (
                places(arrays, f"trial.{number}.query", (None,), len(ids[Side.QUERY])),
                places(arrays, f"trial.{number}.gallery", (None,), len(ids[Side.GALLERY])),
            )
            for number, name in enumerate(meta.trials)
        }
        if not trials:
            raise ValueError("it holds no trial")
        return cls(meta, clean, shown, ids, cams, trials)


def _compact(found: np.ndarray) -> np.ndarray:
    size = np.abs(found)
    typical = float(np.sqrt(np.mean(np.square(found, dtype=np.float64))))
    fits = size.max(initial=0.0) < _HALF_LARGEST and typical > _HALF_TYPICAL
    return found.astype(np.float16 if fits else np.float32)


def _float32(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    return array(arrays, name, ["float16", "float32"], shape).astype(np.float32)


IMAGES_FORMAT = "vbench-kept-images/1"

#: Number of queries that are kept: those that lose most average precision, and random other ones.
WORST, RANDOM = 4, 4

#: Number of gallery images per ranking that are kept; fewer if the gallery is shorter.
DEPTH = 10


class ImagesMeta(Meta):
    """Header of an images file.

    ``trial``: the trial of the rankings; ``rule``: the protocol's ranking rule; ``chosen``: why each query is
    kept, "worst" or "random"; ``rounded``: the victim was shown float pixels, which are rounded here.
    """

    rule: str
    trial: str
    chosen: list[str]
    rounded: bool


@dataclass(frozen=True)
class KeptImages(_Kept):
    """K queries of one run and U gallery images.

    By side: ``clean`` and ``shown`` uint8 N x H x W x 3 (``shown`` equals ``clean`` for a side that was not
    attacked), ``ids``, ``cams`` and ``position`` (in the data set's list of that side) N int32. ``before``
    and ``after`` the attack: K x at most 10 rows of the gallery images, best first, without those that the
    protocol removes. ``match``: K, each query's nearest gallery image of its identity before the attack.
    ``rank`` and ``precision``: K x 2, first match as the protocol counts it, and average precision, before
    and after.
    """

    KIND = "images"

    meta: ImagesMeta
    position: Mapping[Side, np.ndarray]
    before: np.ndarray
    after: np.ndarray
    match: np.ndarray
    rank: np.ndarray
    precision: np.ndarray

    def right(self, rows: np.ndarray) -> np.ndarray:
        """For K x n gallery rows: whether each has the identity of its query."""
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
    def _checked(cls, meta: ImagesMeta, arrays: Mapping[str, np.ndarray]) -> KeptImages:
        found: dict[str, dict[Side, np.ndarray]] = {
            name: {} for name in ("clean", "shown", "ids", "cams", "position")
        }
        size: tuple[int | None, int | None] = (None, None)
        for side in SIDES:
            clean = array(arrays, f"{side.value}.clean", ["uint8"], (None, *size, 3))
            count, height, width = clean.shape[:3]
            size = (height, width)
            found["clean"][side] = found["shown"][side] = clean
            if side in meta.attacked:
                found["shown"][side] = array(arrays, f"{side.value}.shown", ["uint8"], clean.shape)
            for name in ("ids", "cams", "position"):
                found[name][side] = array(arrays, f"{side.value}.{name}", ["int32"], (count,))
        queries, gallery = (len(found["clean"][side]) for side in SIDES)
        if not queries or not gallery or len(meta.chosen) != queries or 0 in size:
            raise ValueError(f"it holds {queries} queries, and says why {len(meta.chosen)} were chosen")
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


_KINDS: dict[str, tuple[type[Meta], str]] = {
    "embeddings": (EmbeddingsMeta, EMBEDDINGS_FORMAT),
    "images": (ImagesMeta, IMAGES_FORMAT),
}

#: Values of ``vbench run --keep``.
KEEPABLE = (*_KINDS, "weights")

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,80}")


def read_keep(text: str) -> frozenset[str]:
    """Parse a value of ``--keep`` such as "embeddings,images"; BadInput for an unknown word, and for none."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in KEEPABLE:
            raise unknown_name("thing to keep", name, KEEPABLE)
    if not names:
        raise BadInput(f"--keep names nothing; known: {', '.join(KEEPABLE)}")
    return frozenset(names)


def kept_file(runs: Path, record_id: str, what: str) -> Path:
    """The path of a kept file of one kind; raises BadInput for a record id that is not a plain name."""
    if not _PLAIN.fullmatch(record_id):
        raise BadInput(f"record id '{record_id[:40]}' is not letters and digits; no file is looked for")
    return runs / "kept" / record_id / f"{what}.safetensors"


def learnt_file(runs: Path, record: Record) -> Path | None:
    """The file of the perturbation that a universal attack's run learnt; None if there is none."""
    attack = record.config["attack"]["name"]
    path = RunStore(runs).perturbation_path(record, attack)
    return path if _PLAIN.fullmatch(f"{attack}-{record.id}") and path.is_file() else None


def missing(runs: Path, record: Record, wanted: Iterable[str]) -> list[str]:
    """Those of ``wanted`` for which there is no file of the run that made this record."""
    lacking = []
    # Only an attacker who trains the victim has weights to keep.
    for what in sorted(set(wanted) - (set() if record.level == "model" else {"weights"})):
        try:
            _check(runs, record, what)
        except BadInput:
            lacking.append(what)
    return lacking


def read_embeddings(runs: Path, record: Record) -> KeptEmbeddings:
    """The kept embeddings of a record; raises BadInput if there are none, or the file is broken."""
    return KeptEmbeddings.read(_check(runs, record, "embeddings"))


def read_images(runs: Path, record: Record) -> KeptImages:
    """The kept images of a record; raises BadInput if there are none, or the file is broken."""
    return KeptImages.read(_check(runs, record, "images"))


def keep_hint(runs: Path, record: Record, what: str) -> str:
    """The command that repeats a run with ``--keep``, and notes on its placeholders, on one line."""
    # Imported here, because reports import this module too.
    from vbench.records.command import command

    folder = [] if runs == Path("runs") else ["--runs", str(runs)]
    found = command([record], ["--keep", what, *folder])
    return "; ".join(filter(None, (found.text, *found.notes)))


def _check(runs: Path, record: Record, what: str) -> Path:
    weights = learnt_file(runs, record) if what == "weights" else None
    if weights is not None:
        return weights
    path = kept_file(runs, record.id, what)
    if not path.is_file():
        raise BadInput(f"run {record.id} kept no {what}; this does: {keep_hint(runs, record, what)}")
    meta = read_meta(path, *_KINDS[what])
    if (meta.record, meta.created, meta.digest) != (record.id, record.created, record.digest):
        raise BadInput(
            f"{path} is of another run than its record; run again: {keep_hint(runs, record, what)}"
        )
    return path
