"""Open a data set with vbench's readers or with a plugin's."""

from __future__ import annotations

import dataclasses
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vbench.core.errors import BadInput, VbenchError, shortened, unknown_name
from vbench.core.plugins import explained, is_own_class, place_of
from vbench.core.source import code_card
from vbench.core.types import Modality
from vbench.data.base import SYNTHETIC_MARK, Dataset, DatasetReader, Sample, Trial
from vbench.data.lists import is_text
from vbench.data.protocols import LAYOUTS, Protocol, default_protocol, parse_protocol
from vbench.data.registry import DATASETS, datasets


def open_dataset(name: str, root: Path, protocol: str | None = None) -> Dataset:
    """Read the data set ``name`` under ``root`` without decoding an image.

    ``name``: a built-in set, an installed reader, or a reader by path; ``protocol`` one of its ids, its
    default when None. Raises :class:`BadInput` for an unknown name or protocol, a protocol of another set, a
    missing folder, and whatever makes the set unusable.
    """
    return read_with(reader_of(name), Path(root), protocol)


def reader_of(name: str) -> DatasetReader:
    """The reader of a data set; raises :class:`BadInput` for an unknown name and one that cannot be made."""
    cls = datasets.load(name)
    with explained(f"dataset '{name}'", cls):
        return cls()


def chosen_protocol(layout: str, protocol: str | None = None) -> Protocol:
    """The protocol with this id, the layout's default when None; raises as :func:`open_dataset` does."""
    chosen = parse_protocol(default_protocol(layout) if protocol is None else protocol)
    if chosen.layout != layout:
        raise BadInput(
            f"protocol '{chosen}' belongs to '{chosen.layout}', not to '{layout}'; "
            f"try '{default_protocol(layout)}'"
        )
    return chosen


def check_root(name: str, root: Path, expected: str) -> Path:
    """``root``; :class:`BadInput`, with what it should hold, when it is no folder."""
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise BadInput(f"{root} {what}; '{name}' expects a folder with {expected}")
    return root


def read_with(reader: DatasetReader, root: Path, protocol: str | None = None) -> Dataset:
    """The data set that ``reader`` reads under ``root``, checked; ``protocol`` defaults to its first.

    Raises :class:`BadInput`, naming the set, for a missing folder, an unknown protocol, and a result that
    :func:`vbench.data.open.checked` refuses; :class:`VbenchError`, with file and line, if the reader fails.
    """
    _check_reader(reader)
    chosen = reader.protocols[0] if protocol is None else protocol
    if reader.name in LAYOUTS:
        chosen = str(chosen_protocol(reader.name, chosen))
    elif chosen not in reader.protocols:
        raise unknown_name(f"protocol of '{reader.name}'", chosen, reader.protocols)
    check_root(reader.name, root, reader.expected)
    with explained(f"dataset '{reader.name}': its reader failed", reader, VbenchError):
        dataset = reader.read(root, chosen)
    what = f"dataset '{reader.name}' under {root}"
    if not isinstance(dataset, Dataset):
        returned = type(dataset).__name__
        raise BadInput(f"{what}: read() in {_code_of(type(reader))} returns a {returned}, not a Dataset")
    if (dataset.name, dataset.protocol) != (reader.name, chosen):
        found = shortened(f"'{dataset.name}' under '{dataset.protocol}'")
        raise BadInput(
            f"{what}: says that it is {found}, not '{chosen}' as asked (read() in {_code_of(type(reader))})"
        )
    try:
        return replace(checked(dataset, what), reader=code_card(reader).get("source", ""))
    except BadInput as error:
        raise BadInput(f"{error} (read() in {_code_of(type(reader))})") from None


def _check_reader(reader: DatasetReader) -> None:
    """Raise :class:`BadInput` for a reader with a missing or wrong class attribute."""
    cls = type(reader)
    for name in ("name", "expected"):
        if not isinstance(getattr(reader, name, None), str):
            raise BadInput(f"dataset reader {cls.__name__} in {_code_of(cls)}: '{name}' must be a text")
    protocols = getattr(reader, "protocols", None)
    if (
        not isinstance(protocols, tuple | list)
        or not protocols
        or not all(isinstance(p, str) for p in protocols)
    ):
        raise BadInput(f"dataset '{reader.name}' in {_code_of(cls)}: 'protocols' must be a tuple of ids")
    if reader.name in DATASETS and not is_own_class(cls):
        raise BadInput(f"dataset '{reader.name}' is vbench's own; give the reader another name")
    for known in protocols:
        if not known.startswith(f"{reader.name}/"):
            raise BadInput(f"dataset '{reader.name}': protocol id '{known}' must start with '{reader.name}/'")


def _code_of(cls: type[DatasetReader]) -> str:
    """File and line of a reader's read(); those of its class if it is not a Python function."""
    code = getattr(inspect.unwrap(cls.read), "__code__", None)
    return f"{code.co_filename}, line {code.co_firstlineno}" if code else place_of(cls)


LISTS = ("query", "gallery", "train_visible", "train_infrared")

#: Ranking rule -> whether a gallery image of the query's identity is removed, given the cameras of query and
#: gallery image; :func:`vbench.metrics.labels.removed` does the same for all pairs.
HIDES: dict[str, Callable[[int, int], bool]] = {
    "sysu": lambda query, gallery: {query, gallery} == {2, 3},
    "regdb": lambda query, gallery: False,
    "llcm": lambda query, gallery: query == gallery,
}

_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


def checked(dataset: Dataset, what: str = "") -> Dataset:
    """The dataset, checked, its lists as tuples and positions as int64.

    Raises :class:`BadInput`, starting with ``what``, for the first error: wrong types, paths that leave the
    folder, an image listed twice, a modality or an identity in the wrong list, trials with positions out of
    range or with nothing to rank.
    """
    what = what or f"{shortened(str(dataset.root))} under '{shortened(str(dataset.protocol))}'"
    for problem in _problems(dataset):
        raise BadInput(f"{what}: {problem}")
    lists: dict[str, Any] = {name: tuple(getattr(dataset, name)) for name in (*LISTS, "notes")}
    trials = tuple(
        Trial(trial.name, np.array(trial.query, dtype=np.int64), np.array(trial.gallery, dtype=np.int64))
        for trial in dataset.trials
    )
    return dataclasses.replace(dataset, trials=trials, **lists)


def _problems(dataset: Dataset) -> Iterator[str]:
    lists = {name: getattr(dataset, name) for name in LISTS}
    wrong = next(_wrong_types(dataset, lists), None)
    if wrong is not None:
        # The other checks need the right types.
        yield wrong
        return
    if dataset.metric not in HIDES:
        yield f"unknown ranking rule '{dataset.metric}'; known: {', '.join(HIDES)}"
    if dataset.synthetic and not (dataset.root / SYNTHETIC_MARK).is_file():
        yield f"is marked synthetic, which only data with {SYNTHETIC_MARK} at its root are"
    yield from (f"{name} is empty" for name, samples in lists.items() if not samples)
    for name, samples in lists.items():
        yield from _bad_list(name, samples)
    yield from _bad_splits(dataset)
    yield from _bad_trials(dataset)


def _wrong_types(dataset: Dataset, lists: dict[str, Sequence[Sample]]) -> Iterator[str]:
    for name in ("name", "protocol", "metric", "split"):
        yield from _not_text(name, getattr(dataset, name))
    if not isinstance(dataset.root, Path):
        yield f"root is a {_type(dataset.root)}; give a pathlib.Path"
    if not isinstance(dataset.synthetic, bool):
        yield f"synthetic is a {_type(dataset.synthetic)}; give True or False"
    for name in (*LISTS, "trials", "notes"):
        if not isinstance(getattr(dataset, name), tuple | list):
            yield f"{name} is a {_type(getattr(dataset, name))}; give a tuple"
            return
    for note in dataset.notes:
        yield from _not_text("a note", note)
    for name, samples in lists.items():
        for sample in samples:
            yield from (f"{name}: {problem}" for problem in _bad_sample(sample))
    for trial in dataset.trials:
        if not isinstance(trial, Trial):
            yield f"trials hold a {_type(trial)}; give vbench.data.Trial"
        else:
            yield from _not_text("a trial's name", trial.name)


def _bad_sample(sample: Sample) -> Iterator[str]:
    if not isinstance(sample, Sample):
        yield f"holds a {_type(sample)}; give vbench.data.Sample"
        return
    yield from _not_text("a path", sample.path)
    for name in ("pid", "cam"):
        value = getattr(sample, name)
        if not isinstance(value, int) or isinstance(value, bool):
            yield f"{name} of '{shortened(str(sample.path))}' is a {_type(value)}; give a whole number"
        elif not _SMALLEST <= value <= _LARGEST:
            yield f"{name} of '{shortened(str(sample.path))}' is {value}, which does not fit 64 bits"
    if not isinstance(sample.modality, Modality):
        yield (
            f"modality of '{shortened(str(sample.path))}' is {shortened(repr(sample.modality))}; "
            "give Modality.VISIBLE or Modality.INFRARED"
        )


def _not_text(what: str, value: object) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{what} is a {_type(value)}; give a text"
    elif not is_text(value):
        yield f"{what}, {shortened(value)}, is not UTF-8"


def _type(value: object) -> str:
    return type(value).__name__


def _bad_list(name: str, samples: Sequence[Sample]) -> Iterator[str]:
    modalities = {sample.modality for sample in samples}
    if len(modalities) > 1:
        yield f"{name} mixes modalities"
    elif modalities == {Modality.INFRARED} and name == "train_visible":
        yield "train_visible holds infrared images"
    elif modalities == {Modality.VISIBLE} and name == "train_infrared":
        yield "train_infrared holds visible images"
    for sample in samples:
        if not _inside(sample.path):
            yield f"{name}: '{shortened(sample.path)}' is no path inside the folder"
            return
    for path, count in Counter(_normalised(sample.path) for sample in samples).items():
        if count > 1:
            yield f"{name} lists '{shortened(path)}' twice"
            return


def _inside(text: str) -> bool:
    path = PurePosixPath(text)
    return (
        bool(path.parts) and not path.is_absolute() and ".." not in path.parts and not {"\\", "\0"} & {*text}
    )


def _normalised(path: str) -> str:
    return str(PurePosixPath(path))


def _bad_splits(dataset: Dataset) -> Iterator[str]:
    train, test = (*dataset.train_visible, *dataset.train_infrared), (*dataset.query, *dataset.gallery)
    both = sorted({sample.pid for sample in train} & {sample.pid for sample in test})
    if both:
        yield f"identity {both[0]} is in training and in test ({len(both)} such)"
    tested = {_normalised(sample.path) for sample in test}
    leaked = next((sample.path for sample in train if _normalised(sample.path) in tested), None)
    if leaked is not None:
        yield f"'{shortened(leaked)}' is a training and a test image"
    modalities: dict[str, Modality] = {}
    for sample in (*train, *test):
        if modalities.setdefault(_normalised(sample.path), sample.modality) is not sample.modality:
            yield f"'{shortened(sample.path)}' is listed as visible and as infrared"
            return


def _bad_trials(dataset: Dataset) -> Iterator[str]:
    if not {sample.pid for sample in dataset.query} & {sample.pid for sample in dataset.gallery}:
        yield "no query identity is in the gallery; there is nothing to rank"
    if not dataset.trials:
        yield "has no trial"
    lengths = {"query": len(dataset.query), "gallery": len(dataset.gallery)}
    for trial in dataset.trials:
        problem = next(
            (
                f"{part} {found}"
                for part in lengths
                if (found := _bad_positions(getattr(trial, part), lengths[part]))
            ),
            None,
        ) or _uninformative(dataset, trial)
        if problem:
            yield f"trial '{shortened(trial.name)}': {problem}"
            return
    counts = {len(trial.query) for trial in dataset.trials}
    if len(counts) > 1:
        yield f"trials rank {min(counts)} to {max(counts)} queries; all must rank the same number"


def _bad_positions(given: object, length: int) -> str | None:
    try:
        index = np.asarray(given)
    except Exception:  # lists of unequal length, or an object that is no array
        return "is empty or no list of positions"
    if index.ndim != 1 or index.size == 0 or not np.issubdtype(index.dtype, np.integer):
        return "is empty or no list of positions"
    if index.min() < 0 or index.max() >= length:
        return f"points beyond the {length} images there are"
    if len(np.unique(index)) != len(index):
        return "names a position twice"
    return None


def _uninformative(dataset: Dataset, trial: Trial) -> str | None:
    """Why the ranking of a trial says nothing about a victim; None if it does."""
    seen: dict[int, set[int]] = {}
    for index in np.asarray(trial.gallery).tolist():
        seen.setdefault(dataset.gallery[index].pid, set()).add(dataset.gallery[index].cam)
    queries = {
        (dataset.query[index].pid, dataset.query[index].cam) for index in np.asarray(trial.query).tolist()
    }
    matched = [(pid, cam) for pid, cam in queries if pid in seen]
    if not matched:
        return "no query identity is in the gallery; there is nothing to rank"
    hides = HIDES[dataset.metric]
    if all(hides(cam, other) for pid, cam in matched for other in seen[pid]):
        cameras = ", ".join(map(str, sorted({cam for _, cam in matched})))
        return (
            f"the rule '{dataset.metric}' hides the own identity from every query (cameras {cameras}); "
            "there is nothing to rank; images of more cameras are needed, or another protocol"
        )
    if len(seen) == 1:
        return (
            f"{next(iter(seen))} is the only identity in the gallery, so every ranking is right; add others"
        )
    return None


def with_queries(dataset: Dataset, count: int) -> Dataset:
    """The dataset with ``count`` of its queries, evenly spread over the list; all of them if it has fewer.

    Galleries stay as they are, and so does every query's rank. Raises :class:`BadInput` for a count below 1
    and for a trial that is left without a query.
    """
    if count < 1:
        raise BadInput(f"--queries {count}: give at least 1")
    total = len(dataset.query)
    if count >= total:
        return dataset
    kept = np.linspace(0, total, count, endpoint=False).astype(np.int64)
    place = np.full(total, -1)
    place[kept] = np.arange(count)
    trials = []
    for trial in dataset.trials:
        query = place[trial.query]
        query = query[query >= 0]
        if not len(query):
            raise BadInput(f"--queries {count} leaves trial {trial.name} without a query; give more")
        trials.append(Trial(trial.name, query, trial.gallery))
    query = tuple(dataset.query[row] for row in kept)
    return replace(dataset, query=query, trials=tuple(trials))
