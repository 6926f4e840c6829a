"""``vbench.evaluate``: what ``vbench run`` does, as a function."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from vbench.attacks.base import Attack
from vbench.data.base import Dataset
from vbench.data.names import SYNTHETIC
from vbench.errors import BadInput, shortened
from vbench.library.result import Result
from vbench.plugins import one_version
from vbench.prepare import Choice
from vbench.series import Series
from vbench.size import parse_size
from vbench.threat import ThreatModel
from vbench.victims.base import Victim

T = TypeVar("T")

_DEFAULT_BUDGET = "8/255"


def evaluate(
    victim: str | Victim | Sequence[str | Victim],
    attack: str | Attack | Sequence[str | Attack],
    dataset: str | Dataset = SYNTHETIC,
    threat: ThreatModel | str | float | None = None,
    *,
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
    runs: str | Path | None = None,
    force: bool = False,
    ignore_gates: bool = False,
    device: str = "auto",
    precision: str = "auto",
    quiet: bool = True,
) -> Result:
    """Attack victims on a data set; the same runs, records and figures as ``vbench run``.

    ``victim`` and ``attack`` are names or texts as on the command line ("agw", "pgd[steps=20]", "all"), or
    a :class:`Victim` or an :class:`Attack` of your own, or lists of these. ``dataset`` is "synthetic" (of
    ``layout`` and ``size``, H x W), or with its folder ``root`` "sysu", "regdb", "llcm", the name of an
    installed reader or ``./file.py:Class``, or an open :class:`Dataset`. ``threat`` is a
    :class:`ThreatModel` or a budget in [0, 1] pixel units, 8/255 unless given; a preset that comes with a
    side or a budget decides what is not given. The runner enforces it, whatever the attack does. ``settings``
    are settings of every attack; several surrogates are an ensemble.

    With ``runs``, a folder, records and perturbations are stored there as each run ends, and what is there
    already is not run again unless ``force``. A victim of your own is copied and left as it is.
    ``quiet=False`` shows progress on standard error: the first call on synthetic data draws people and trains
    the victim.

    An attack or a victim that fails loses its own runs: they are ``failures`` of the result, and a warning.
    Raises :class:`BadInput`, before any work, for what cannot be done, and :class:`VbenchError` with the
    first reason when every run is lost.
    """
    victims, attacks, seeds = _several(victim), _several(attack), _several(seed)
    if not (victims and attacks and seeds):
        raise BadInput("evaluate takes at least one victim, one attack and one seed")
    if not isinstance(settings, Mapping | None):
        raise BadInput(f"settings are a mapping, as in settings={{'steps': 20}}, not {_kind(settings)}")
    stated = ("eps", "side") if isinstance(threat, ThreatModel) else ("eps",) if threat is not None else ()
    if not isinstance(threat, ThreatModel):
        threat = ThreatModel(_DEFAULT_BUDGET if threat is None else threat)
    choice = Choice(
        dataset,
        _path("root", root),
        None,
        _text("layout", layout),
        _size(size),
        _path("weights", weights),
        _text("device", str(device) if isinstance(device, torch.device) else device),
        ignore_gates,
        tuple(_named(one) for one in _several(surrogate)),
        tuple(_path("surrogate_weights", one) for one in _several(surrogate_weights)),
        _text("precision", precision),
    )
    series = Series(choice, threat, _path("runs", runs), force, quiet, stated)
    protocols = [_text("protocol", one) for one in _several(protocol)]
    with one_version():
        records = series.execute(
            victims, attacks, seeds, dict(settings or {}), protocols, _path("perturbation", perturbation)
        )
    learnt = {record.id: series.recorder.perturbations(record) for record in records}
    lost = series.failures.lost
    if lost:
        of = len(lost) + len(records)
        warnings.warn(f"{len(lost)} of {of} runs are lost, see .failures; {lost[0]}", stacklevel=2)
    return Result(tuple(records), learnt, tuple(lost))


def _several(given: T | Sequence[T] | None) -> list[T]:
    """A list as it is, one thing as a list of it, None as an empty one."""
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple | range | np.ndarray) else [given]


def _path(name: str, given: Any) -> Path | None:
    if not isinstance(given, str | PathLike | None):
        raise BadInput(f"{name} is a path, not {_kind(given)}")
    return None if given is None else Path(given)


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
