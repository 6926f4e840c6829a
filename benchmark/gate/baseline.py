"""The baseline file, and the paths in it."""

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
from vbench.records.spec import Request

SCHEMA: Final = 1

#: Largest number of problems of a broken file in one message.
_MOST_PROBLEMS = 12

Seed = Annotated[StrictInt, Field(ge=0, lt=SEEDS)]


class Place(BaseModel):
    """What was measured: ``victim`` as the user named it, the protocol's id, and the attack if any."""

    model_config = ConfigDict(extra="forbid")

    victim: str
    protocol: str
    attack: str = ""

    def __str__(self) -> str:
        return f"{self.victim}, {self.attack}" if self.attack else self.victim

    @property
    def key(self) -> tuple[str, str, str]:
        """Equal for two measurements of the same thing."""
        return self.victim, self.protocol, self.attack


class Measured(Place):
    """Statistics of one victim (``attack`` empty) or of one attack on it, and their configuration.

    ``config``: as in a run record, without the seed. ``metrics``: by name, see :mod:`vbench.gate.figures`.
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
    """A metric whose bound no result can exceed. ``needed``: number of seeds that suffices; None if none."""

    subject: Measured
    metric: str
    bound: float
    needed: int | None


class Baseline(BaseModel):
    """What to run, and the results: clean ``victims``, and ``attacks`` on them, each over ``seeds``.

    ``request`` has paths relative to the file's folder. ``drawn``: parameters of the synthetic set that is
    used instead of its ``root``, and written to the cache if missing. ``false_alarm``: largest probability,
    over all comparisons, that a re-run of the same code with other seeds fails.
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
            raise ValueError("seeds: a seed is given twice")
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
        """The number of metrics that a gate compares; they share ``false_alarm``."""
        return sum(len(one.metrics) for one in self.subjects)

    @property
    def subjects(self) -> list[Measured]:
        """Victims, then attacks on them."""
        return [*self.victims, *self.attacks]

    def bound(self, spread: Spread, seeds: int) -> float:
        """Largest difference from a metric of this baseline that a gate with ``seeds`` seeds allows."""
        return allowed(spread, seeds, self.comparisons, self.false_alarm)

    def unguarded(self, seeds: int) -> list[Unguarded]:
        """The metrics for which a gate with ``seeds`` seeds would allow any result."""
        found = []
        for subject in self.subjects:
            for name, spread in subject.metrics.items():
                bound, reach = self.bound(spread, seeds), self._reach(subject, name)
                if bound >= reach:
                    needed = seeds_needed(spread, reach, self.comparisons, self.false_alarm)
                    found.append(Unguarded(subject=subject, metric=name, bound=bound, needed=needed))
        return found

    def without(self, metrics: Sequence[Unguarded]) -> Baseline:
        """A copy without these metrics."""
        gone = {(one.subject.key, one.metric) for one in metrics}

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
        """Smallest relative loss of an attack's strength that a gate with ``seeds`` seeds detects.

        Above 1, the attack could stop working undetected. None for an attack that has no effect.
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
    """Write a baseline atomically."""
    write_atomically(path, baseline.model_dump_json(indent=1) + "\n")


def now() -> str:
    """The current time as written to a baseline: UTC, ISO 8601."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def problems(error: ValidationError) -> str:
    """Malformed fields and what is wrong with them, in one line."""
    found = [_problem(one) for one in error.errors()]
    more = len(found) - _MOST_PROBLEMS
    return "; ".join(found[:_MOST_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")


def _problem(one: Any) -> str:
    where = ".".join(str(part) for part in one["loc"])
    what = str(one["msg"]).removeprefix("Value error, ")
    return f"{where}: {what}" if where else what


#: Largest number of identities in a synthetic set of a baseline; real sets have about a thousand.
_MOST_IDS = 100_000


def stored(request: Request, folder: Path) -> tuple[Request, SyntheticSet | None]:
    """A request as stored in a baseline in ``folder``, and the parameters of its synthetic set, if any.

    Relative paths are rewritten relative to ``folder``; the root of a synthetic set is left out.
    """
    synthetic = _synthetic_set(request.root) if request.root else None
    changes = {
        "root": None if synthetic or request.root is None else _seen_from(folder, request.root),
        "weights": _seen_from(folder, request.weights) if request.weights else None,
        "surrogate_weights": tuple(_seen_from(folder, path) for path in request.surrogate_weights),
    }
    return request.model_copy(update=changes), synthetic


def resolved(
    baseline: Baseline, folder: Path, root: Path | None, weights: Path | None, quiet: bool = False
) -> Request:
    """The request of a baseline in ``folder``, ready to run; a synthetic set is written to the cache.

    ``root`` and ``weights`` replace the baseline's.
    """
    request = baseline.request
    if root is None:
        root = folder / request.root if request.root else None
        if baseline.drawn is not None:
            _check_synthetic(baseline.drawn)
            root = baseline.drawn.write(cache_folder(), quiet)
    if weights is None and request.weights:
        weights = folder / request.weights
    surrogates = tuple(folder / path for path in request.surrogate_weights)
    return request.model_copy(update={"root": root, "weights": weights, "surrogate_weights": surrogates})


def _check_synthetic(found: SyntheticSet) -> None:
    """Refuse a set that would take too long to write: baselines are untrusted."""
    ids, side = max(found.ids, found.test_ids), max(found.size)
    if ids > _MOST_IDS or side > LARGEST_SIDE or min(found.ids, found.test_ids, *found.size) < 1:
        raise BadInput(
            f"the baseline's synthetic set has {ids} identities in images of {side} pixels; name a --root"
        )


def _seen_from(folder: Path, path: Path) -> Path:
    return path if path.is_absolute() else Path(Path(os.path.relpath(path, folder)).as_posix())


def _synthetic_set(root: Path) -> SyntheticSet | None:
    if not is_synthetic(root):
        return None
    try:
        manifest = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
        if manifest.pop("generator") != GENERATOR_VERSION:
            return None
        return SyntheticSet(**{**manifest, "size": tuple(manifest["size"])})
    except (OSError, RecursionError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise BadInput(f"{root / MANIFEST} is damaged; write the synthetic set again") from error
