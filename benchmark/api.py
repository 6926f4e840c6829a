"""``evaluate``, ``load_victim`` and ``Result``, for scripts and notebooks."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vbench.attacks.base import Attack
from vbench.attacks.perturbation import Perturbation
from vbench.core.errors import BadInput, VbenchError, shortened
from vbench.core.files import cache_folder
from vbench.core.plugins import one_version
from vbench.core.settings import parse_size
from vbench.core.threat import ThreatModel
from vbench.data import open_dataset
from vbench.data.base import Dataset
from vbench.data.protocols import SYNTHETIC
from vbench.data.synthetic.embedded import SyntheticSet
from vbench.records.files import read_keep
from vbench.records.record import Failure, Record
from vbench.records.spec import OPTIONS, as_name, run_specs, spec_of
from vbench.records.store import RunStore
from vbench.run.builtin import thin_weights
from vbench.run.session import Session, keep, stored_perturbations
from vbench.victims.base import Victim
from vbench.victims.build import VictimSpec
from vbench.victims.load import load_victim as build_named
from vbench.victims.make import check_options
from vbench.victims.registry import victims

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """Records of runs, in the order of the request.

    ``perturbations``: record id -> learnt perturbations: one for a universal attack, none for an attack that
    crafts each image separately, one per universal member of a battery. ``failures``: failed runs with their
    reasons. Printing a result gives the table of ``vbench run``; a notebook shows it as HTML.
    """

    records: tuple[Record, ...]
    perturbations: Mapping[str, tuple[Perturbation, ...]] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()

    @classmethod
    def read(cls, runs: str | Path) -> Result:
        """All records of a folder of runs, with their perturbations, or of an archive, without them.

        Unreadable files give a warning. Raises :class:`BadInput` if there is no readable record.
        """
        store = RunStore(Path(runs))
        contents = store.read_all() if store.root.exists() else None
        if contents is None or not contents.records:
            raise BadInput(f"no readable run record in {runs}")
        warn = partial(warnings.warn, stacklevel=2)
        for note in contents.notes:
            warn(note)
        records = tuple(contents.records)
        if not store.root.is_dir():
            return cls(records)
        return cls(records, {record.id: stored_perturbations(store, record, warn) for record in records})

    @property
    def record(self) -> Record:
        """The only record; raises :class:`BadInput` if there are several or none."""
        if len(self.records) != 1:
            raise BadInput(f"this result holds {len(self.records)} records; take one of .records")
        return self.records[0]

    @property
    def perturbation(self) -> Perturbation:
        """The only learnt perturbation; raises :class:`BadInput` if there are several or none."""
        found = [one for record in self.records for one in self.perturbations.get(record.id, ())]
        if len(found) != 1:
            raise BadInput(f"this result holds {len(found)} perturbations; see .perturbations")
        return found[0]

    def where(self, text: str) -> Result:
        """The records that meet every condition, as in ``vbench report --where``: "victim=agw eps=8/255"."""
        from vbench.reports.select import select

        selected = tuple(select(self.records, text))
        ids = {record.id for record in selected}
        return Result(selected, {name: found for name, found in self.perturbations.items() if name in ids})

    def to_frame(self, per: str = "run") -> pd.DataFrame:
        """A pandas table, unrounded, shares in [0, 1]: one row per "run", "trial", or "query" (and trial).

        docs/library.md explains the columns. Raises :class:`BadInput` for another ``per``, and for "query"
        with records from an archive, which has no per-query values.
        """
        from vbench.reports.frame import frame

        return frame(self.records, per)

    def report(
        self,
        style: str = "markdown",
        metrics: Sequence[str] | None = None,
        group: str | None = None,
        versus: str | None = None,
    ) -> str:
        """The full table of ``vbench report``: "markdown", "latex", "plain", "csv" or "json".

        ``metrics``: "r1", "r5", "r10", "r20", "map", "minp", "asr"; ``group``: "victim", "attack" or
        "dataset", a table each; ``versus``: an attack to compare with. Raises :class:`BadInput` for others.
        """
        from vbench.reports.select import pick_metrics
        from vbench.reports.tables import report_of

        picked = None if metrics is None else pick_metrics(",".join(_several(metrics)))
        return report_of(self.records, style, picked, group, versus)

    def save(self, runs: str | Path) -> list[Path]:
        """Store records and perturbations in a folder as ``vbench run`` does; returns the records' paths."""
        store = RunStore(Path(runs))
        return [keep(store, record, self.perturbations.get(record.id, ())) for record in self.records]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __str__(self) -> str:
        from vbench.reports.tables import report

        return report(self.records, "plain", self.failures) if self.records else "no record"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from vbench.reports.tables import report

        return report(self.records, "html", self.failures)


def evaluate(
    victim: str | Victim | Sequence[str | Victim],
    attack: str | Attack | Sequence[str | Attack],
    dataset: str | Dataset = SYNTHETIC,
    threat: ThreatModel | str | float | None = None,
    *,
    eps: str | float | None = None,
    protocol: str | Sequence[str] | None = None,
    seed: int | Sequence[int] = 0,
    settings: Mapping[str, Any] | None = None,
    root: str | Path | None = None,
    weights: str | Path | None = None,
    layout: str = "sysu",
    size: tuple[int, int] | None = None,
    surrogate: str | Sequence[str] | None = None,
    surrogate_weights: str | Path | Sequence[str | Path] | None = None,
    perturbation: str | Path | None = None,
    queries: int | None = None,
    runs: str | Path | None = None,
    keep: str | Sequence[str] = (),
    force: bool = False,
    ignore_gates: bool = False,
    allow_code: bool = False,
    device: str = "auto",
    precision: str = "auto",
    channels_last: bool | None = None,
    batch_size: int | None = None,
    quiet: bool = True,
) -> Result:
    """Attack victims on a data set; the same runs, records and results as ``vbench run``.

    ``victim`` and ``attack`` are names or texts as on the command line ("agw", "pgd[steps=20]", "all"),
    :class:`Victim` or :class:`Attack` objects, or lists of these. ``dataset`` is "synthetic" (with ``layout``
    and ``size``, H x W); or, with its folder ``root``, "sysu", "regdb", "llcm", the name of an installed
    reader or ``./file.py:Class``; or an open :class:`Dataset`. ``threat`` is a :class:`ThreatModel` or a
    budget in [0, 1] pixel units, which may also be given as ``eps``. A budget or side that is not given comes
    from the attack's preset, if it has one, otherwise it is 8/255 (L_inf) or query. The runner enforces the
    budget on what the attack returns. ``settings`` apply to every attack; several surrogates form an
    ensemble. ``queries``: how many of the queries are used, evenly spread, to try small; None for all.

    With ``runs``, a folder, records and perturbations are stored there after each run, and recorded runs are
    not repeated unless ``force`` is set. ``keep`` stores files for figures there too: "embeddings", "images",
    "weights" (of a victim that the attack trained), or a list of these. A victim object is copied, not
    changed. ``quiet=False`` shows progress on standard error: the first call on synthetic data writes the
    images and trains the victim. ``allow_code`` runs a victim that is a program, such as "model.pt2".
    ``channels_last`` is the memory layout of images, None: as ``precision`` "auto" finds it faster.
    ``batch_size``: images at a time, on which no result depends, None: 64, on a GPU more.

    Runs whose attack or victim fails are listed in ``failures`` of the result, with a warning. Raises
    :class:`BadInput`, before any work, for an invalid request, and :class:`VbenchError` with the first reason
    if every run fails.
    """
    victims: list[str | Victim] = _several(victim)
    attacks: list[str | Attack] = _several(attack)
    seeds: list[int] = _several(seed)
    if not (victims and attacks and seeds):
        raise BadInput("evaluate takes at least one victim, one attack and one seed")
    if not isinstance(settings, Mapping | None):
        raise BadInput(f"settings are a mapping, as in settings={{'steps': 20}}, not {_kind(settings)}")
    flags = {"force": force, "ignore_gates": ignore_gates, "allow_code": allow_code, "quiet": quiet}
    flags |= {} if channels_last is None else {"channels_last": channels_last}
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise BadInput(f"{name} is True or False, not {shortened(repr(value))}")
    if threat is not None and eps is not None:
        raise BadInput("give the budget once: as threat or as eps")
    threat = eps if threat is None else threat
    # The attack's preset may give what the caller did not.
    budget: Any = threat.eps if isinstance(threat, ThreatModel) else threat
    side = threat.side if isinstance(threat, ThreatModel) else None
    if not isinstance(threat, ThreatModel):
        threat = ThreatModel(budget)
    with _by_argument(), one_version():
        one = spec_of(
            {
                "dataset": as_name(dataset),
                "root": _path("root", root),
                "layout": _text("layout", layout),
                "size": _size(size),
                "queries": _number("queries", queries),
                "weights": _path("weights", weights),
                "surrogate": [_named(name) for name in _several(surrogate)],
                "surrogate_weights": [
                    _path("surrogate_weights", file) for file in _several(surrogate_weights)
                ],
                "precision": _text("precision", precision),
                "device": _text("device", str(device) if isinstance(device, torch.device) else device),
                "channels_last": channels_last,
                "batch_size": _number("batch_size", batch_size),
                "ignore_gates": ignore_gates,
                "allow_code": allow_code,
                "settings": settings,
                "eps": budget,
                "norm": threat.norm,
                "side": side,
                "quantize": threat.quantize,
                "perturbation": _path("perturbation", perturbation),
            }
        )
        protocols = [_text("protocol", name) for name in _several(protocol)]
        named = [_text("keep", one) for one in _several(keep)]
        kept = read_keep(",".join(named)) if named else ()
        if kept and runs is None:
            raise BadInput("keep stores files next to records: name their folder, as in runs='runs'")
        session = Session(_folder("runs", runs), force, quiet, kept)
        records = session.run_all(run_specs(one, victims, attacks, seeds, protocols))
    learnt = {record.id: session.recorder.perturbations(record) for record in records}
    failed = session.failures.lost
    if failed:
        count = len(failed) + len(records)
        warnings.warn(f"{len(failed)} of {count} runs are lost, see .failures; {failed[0]}", stacklevel=2)
    return Result(tuple(records), learnt, tuple(failed))


def load_victim(
    name: str,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    device: str | torch.device = "auto",
    *,
    thin: bool = False,
    layout: str = "sysu",
    size: tuple[int, int] | None = None,
    allow_code: bool = False,
    **options: Any,
) -> Victim:
    """Build the victim called ``name`` in evaluation mode on ``device`` ("auto": a GPU if there is one).

    ``weights`` is a checkpoint, released or trained here; without it the weights are random. With ``thin`` it
    is the small model that ``vbench run`` attacks on synthetic data with ``layout`` and ``size`` (H, W), with
    its weights: shipped for AGW, trained once for the others. ``options`` are those of ``vbench describe
    victim NAME``. Raises :class:`BadInput` as :func:`vbench.victims.load.build_victim` does.
    """
    _text("name", name)
    if not thin:
        return build_named(name, weights, num_classes, device, allow_code=allow_code, **options)
    if weights is not None or num_classes is not None:
        raise BadInput("a thin victim has its own weights; leave out thin, or weights and num_classes")
    spec, own = (
        VictimSpec(name, options),
        SyntheticSet(layout=layout, size=_size(size) or SyntheticSet().size),
    )
    check_options(victims.load(name), options)
    dataset = open_dataset(layout, own.write(cache_folder(), quiet=True))
    file = thin_weights(spec, dataset, cache_folder(), own.size, quiet=True)
    return build_named(name, file, device=device, **spec.settings)


_OPTION = re.compile(r"(?<![\w/.-])--(no-)?([a-z-]+)\b( ?)")


@contextmanager
def _by_argument() -> Iterator[None]:
    """Let messages name arguments of :func:`evaluate` in place of the options of ``vbench run``."""
    arguments = inspect.signature(evaluate).parameters

    def argument(found: re.Match[str]) -> str:
        name = found[2].replace("-", "_")
        option = OPTIONS.get(name)
        # A message that names both says which is which.
        if option is None or name not in arguments or f"{name}=" in found.string:
            return found[0]
        return f"{name}={not found[1]}{found[3]}" if option.kind is bool else f"{name}{found[3] or '='}"

    try:
        yield
    except VbenchError as error:
        error.args = (_OPTION.sub(argument, str(error)),)
        raise


def _several(given: object) -> list[Any]:
    """A list of what the caller gave: of one value, or of several; empty for None."""
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple | range | np.ndarray) else [given]


def _path(name: str, given: Any) -> str | None:
    if not isinstance(given, str | PathLike | None):
        raise BadInput(f"{name} is a path, not {_kind(given)}")
    return None if given is None else str(given)


def _folder(name: str, given: Any) -> Path | None:
    path = _path(name, given)
    if path == "":
        raise BadInput(f"{name} is empty; name a folder, as in {name}='runs'")
    return None if path is None else Path(path)


def _number(name: str, given: Any) -> int | None:
    whole = isinstance(given, int | np.integer) and not isinstance(given, bool)
    if given is not None and not (whole and given >= 1):
        raise BadInput(f"{name} is a whole number above 0, not {shortened(repr(given))}")
    return None if given is None else int(given)


def _text(name: str, given: Any) -> str:
    if not isinstance(given, str):
        raise BadInput(f"{name} is a text, not {_kind(given)}")
    return given


def _named(surrogate: Any) -> str:
    if not isinstance(surrogate, str):
        raise BadInput(f"a surrogate is named, as in surrogate='ddag', not {_kind(surrogate)}")
    return surrogate


def _size(given: Any) -> tuple[int, int] | None:
    if given is None:
        return None
    if isinstance(given, str):
        return parse_size(given)
    pair = tuple(given) if isinstance(given, list | tuple) else ()
    if len(pair) != 2 or not all(isinstance(side, int | np.integer) and side > 0 for side in pair):
        raise BadInput(f"size is height and width in pixels, as in (64, 32), not {shortened(repr(given))}")
    return int(pair[0]), int(pair[1])


def _kind(given: Any) -> str:
    return f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
