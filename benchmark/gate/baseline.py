"""The baseline file and where its data lie."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError, model_validator

from vbench.core.errors import BadInput
from vbench.core.files import cache_folder, write_atomically
from vbench.core.seeds import SEEDS
from vbench.core.settings import LARGEST_SIDE
from vbench.data.base import is_synthetic
from vbench.data.synthetic.embedded import SyntheticSet
from vbench.data.synthetic.write import GENERATOR_VERSION, MANIFEST
from vbench.gate.figures import ATTACKED, CLEAN, METRICS, STRENGTH
from vbench.metrics.statistics import FALSE_ALARM, Spread, allowed, seeds_needed
from vbench.run.request import Request

SCHEMA: Final = 1

#: Problems of a broken file that are named at once.
_MOST_PROBLEMS = 12

Seed = Annotated[StrictInt, Field(ge=0, lt=SEEDS)]


class Place(BaseModel):
    """Where something was measured: ``victim`` as asked for, on the protocol of that id."""

    model_config = ConfigDict(extra="forbid")

    victim: str
    protocol: str
    attack: str = ""

    def __str__(self) -> str:
        return f"{self.victim}, {self.attack}" if self.attack else self.victim

    @property
    def key(self) -> tuple[str, str, str]:
        """What two measurements of the same thing have in common."""
        return self.victim, self.protocol, self.attack


class Measured(Place):
    """Statistics of one victim (``attack`` empty) or of one attack on it, and the configuration behind them.

    ``config``: as in a run record, less the seed. ``metrics``: by name, see :mod:`vbench.gate.figures`.
    """

    config: dict[str, Any]
    metrics: dict[str, Spread]

    @model_validator(mode="after")
    def _known(self) -> Measured:
        known = {metric.name for metric in (ATTACKED if self.attack else CLEAN)}
        unknown = sorted(set(self.metrics) - known)
        if unknown:
            raise ValueError(f"unknown metrics {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        return self


class Unguarded(BaseModel):
    """A figure whose bound no result can exceed; ``needed`` seeds would do, None: no number would."""

    subject: Measured
    metric: str
    bound: float
    needed: int | None


class Baseline(BaseModel):
    """What to run and how it went: ``victims`` clean, ``attacks`` on them, each over ``seeds``.

    ``request`` has paths relative to the file's folder. ``drawn`` are the parameters of a synthetic set that
    takes the place of its ``root`` and is drawn again where it is missing. ``false_alarm``: chance, at most,
    that other seeds of the same code are called a move, over all comparisons.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = SCHEMA
    created: str = ""
    request: Request
    drawn: SyntheticSet | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=2)]
    false_alarm: Annotated[float, Field(gt=0, lt=0.5)] = FALSE_ALARM
    victims: Annotated[list[Measured], Field(min_length=1)]
    attacks: Annotated[list[Measured], Field(min_length=1)]
    environment: dict[str, Any] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Baseline:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: the same seed twice says nothing new")
        for one in self.attacks:
            for name, spread in one.metrics.items():
                if spread.n != len(self.seeds):
                    raise ValueError(f"{one}: {name} has {spread.n} values for {len(self.seeds)} seeds")
        keys = [one.key for one in self.subjects]
        if len(set(keys)) < len(keys):
            raise ValueError("a victim or an attack on it is there twice")
        return self

    @property
    def comparisons(self) -> int:
        """How many figures a gate compares; they share ``false_alarm``."""
        return sum(len(one.metrics) for one in self.subjects)

    @property
    def subjects(self) -> list[Measured]:
        """Victims, then attacks on them."""
        return [*self.victims, *self.attacks]

    def bound(self, spread: Spread, seeds: int) -> float:
        """Largest difference from a figure of this baseline that a gate with ``seeds`` seeds lets pass."""
        return allowed(spread, seeds, self.comparisons, self.false_alarm)

    def unguarded(self, seeds: int) -> list[Unguarded]:
        """The figures that a gate with ``seeds`` seeds could not turn red, whatever happened."""
        found = []
        for subject in self.subjects:
            for name, spread in subject.metrics.items():
                bound, reach = self.bound(spread, seeds), self._reach(subject, name)
                if bound >= reach:
                    needed = seeds_needed(spread, reach, self.comparisons, self.false_alarm)
                    found.append(Unguarded(subject=subject, metric=name, bound=bound, needed=needed))
        return found

    def without(self, figures: Sequence[Unguarded]) -> Baseline:
        """The same without these figures."""
        gone = {(one.subject.key, one.metric) for one in figures}

        def left(one: Measured) -> Measured:
            kept = {name: spread for name, spread in one.metrics.items() if (one.key, name) not in gone}
            return one.model_copy(update={"metrics": kept})

        changes = {kind: [left(one) for one in getattr(self, kind)] for kind in ("victims", "attacks")}
        return self.model_copy(update=changes)

    def _reach(self, subject: Measured, name: str) -> float:
        metric = METRICS[name]
        on = next((one for one in self.victims if one.key[:2] == subject.key[:2]), None)
        clean = on.metrics.get(metric.clean) if on else None
        return metric.reach(subject.metrics[name].mean, clean.mean if clean else None)

    def smallest_loss(self, subject: Measured, seeds: int) -> float | None:
        """Share of its strength that an attack must lose before a gate with ``seeds`` seeds notices.

        Above 1: it could stop working unseen. None for an attack without any strength.
        """
        drops = [subject.metrics[name] for name in STRENGTH if name in subject.metrics]
        shares = [self.bound(drop, seeds) / drop.mean for drop in drops if drop.mean > 0]
        return min(shares, default=None)


def read_baseline(path: Path) -> Baseline:
    """Read a baseline; :class:`BadInput` in one line that names each malformed field."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise BadInput(f"no baseline at {path} ({error.strerror}); make one with vbench baseline") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not JSON ({error})") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > SCHEMA:
        raise BadInput(f"{path}: made by a newer vbench (schema {version}, known {SCHEMA}); update vbench")
    try:
        return Baseline.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise BadInput(f"{path}: {problems(error)}") from error


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline, whole or not at all."""
    write_atomically(path, baseline.model_dump_json(indent=1) + "\n")


def now() -> str:
    """The time, as a baseline notes it."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def problems(error: ValidationError) -> str:
    """Every malformed field with what is wrong, in one line."""
    found = [_problem(one) for one in error.errors()]
    more = len(found) - _MOST_PROBLEMS
    return "; ".join(found[:_MOST_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")


def _problem(one: Any) -> str:
    where = ".".join(str(part) for part in one["loc"])
    what = str(one["msg"]).removeprefix("Value error, ")
    return f"{where}: {what}" if where else what


#: Real sets have a thousand.
_MOST_IDS = 100_000


def stored(request: Request, folder: Path) -> tuple[Request, SyntheticSet | None]:
    """A request as a baseline in ``folder`` keeps it: relative paths as seen from there, absolute as given.

    A synthetic set is kept as its parameters, which is second.
    """
    drawn = _drawn(request.root) if request.root else None
    changes = {
        "root": None if drawn or request.root is None else _seen_from(folder, request.root),
        "weights": _seen_from(folder, request.weights) if request.weights else None,
        "surrogate_weights": tuple(_seen_from(folder, path) for path in request.surrogate_weights),
    }
    return request.model_copy(update=changes), drawn


def resolved(
    baseline: Baseline, folder: Path, root: Path | None, weights: Path | None, quiet: bool = False
) -> Request:
    """The request of a baseline that lies in ``folder``, ready to be run; a drawn set is there afterwards.

    ``root`` and ``weights`` take the place of the baseline's.
    """
    request = baseline.request
    if root is None:
        root = folder / request.root if request.root else None
        if baseline.drawn is not None:
            _check_drawn(baseline.drawn)
            root = baseline.drawn.write(cache_folder(), quiet)
    if weights is None and request.weights:
        weights = folder / request.weights
    surrogates = tuple(folder / path for path in request.surrogate_weights)
    return request.model_copy(update={"root": root, "weights": weights, "surrogate_weights": surrogates})


def _check_drawn(drawn: SyntheticSet) -> None:
    """A baseline may come from anywhere, and a set is drawn unasked."""
    ids, side = max(drawn.ids, drawn.test_ids), max(drawn.size)
    if ids > _MOST_IDS or side > LARGEST_SIDE or min(drawn.ids, drawn.test_ids, *drawn.size) < 1:
        raise BadInput(
            f"the baseline's drawn set has {ids} identities in images of {side} pixels; name a --root"
        )


def _seen_from(folder: Path, path: Path) -> Path:
    return path if path.is_absolute() else Path(Path(os.path.relpath(path, folder)).as_posix())


def _drawn(root: Path) -> SyntheticSet | None:
    if not is_synthetic(root):
        return None
    try:
        manifest = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
        if manifest.pop("generator") != GENERATOR_VERSION:
            return None
        return SyntheticSet(**{**manifest, "size": tuple(manifest["size"])})
    except (OSError, RecursionError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise BadInput(f"{root / MANIFEST} is not what drew this set; draw it again") from error
