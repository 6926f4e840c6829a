"""The baseline file, the paths in it, and the metrics that a gate compares."""

from __future__ import annotations

import datetime
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError, model_validator

from vbench.core.errors import BadInput
from vbench.core.files import cache_folder, write_atomically
from vbench.core.seeds import SEEDS
from vbench.core.settings import LARGEST_SIDE
from vbench.data.base import is_synthetic
from vbench.data.synthetic.embedded import SyntheticSet
from vbench.data.synthetic.write import GENERATOR_VERSION, MANIFEST
from vbench.metrics.statistics import FALSE_ALARM, Spread, allowed, seeds_needed
from vbench.records.record import Record, TrialMetrics
from vbench.records.spec import Request
from vbench.reports.rows import per_query

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

    ``config``: as in a run record, without the seed. ``metrics``: by name, see :mod:`vbench.gate.baseline`.
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


#: Verdicts for a rise and for a fall.
Words = tuple[str, str]

_Resolution = Callable[[Any], float]

_HIGHER: Words = ("higher", "lower")

_STRONGER: Words = ("stronger", "weaker")


@dataclass(frozen=True)
class Metric:
    """``value``: computed from clean trials or a record; None if it has none.

    ``resolution``: largest effect of one query on the value, from the same source. ``scale`` and ``digits``
    are for display: shares in percent. ``words``: verdicts for a rise and for a fall. ``clean``: name of the
    victim's metric that this one is a drop of. ``share``: whether it is in [0, 1].
    """

    name: str
    label: str
    value: Callable[[Any], float | None]
    resolution: _Resolution
    words: Words = _HIGHER
    scale: float = 1.0
    digits: int = 2
    clean: str = ""
    share: bool = False

    def reach(self, mean: float, clean: float | None) -> float:
        """Largest possible distance of a result from ``mean``; ``clean``: the victim's value for a drop.

        A drop can become 0 (no effect) or the whole clean value. A quantity without an upper limit can
        become 0, which must be detected.
        """
        if self.share or self.clean:
            most = 1.0 if self.share or clean is None else clean
            return max(mean, most - mean)
        return mean if mean > 0 else math.inf

    def shown(self, value: float, sign: str = "") -> str:
        """A value of this metric as displayed in tables; with ``sign`` "+" a rise has a sign, too."""
        return f"{self.scale * value:{sign}.{self.digits}f}"


def _mean(trials: Sequence[TrialMetrics], name: str) -> float:
    return sum(getattr(trial, name) for trial in trials) / len(trials)


def _one_query(trials: Sequence[TrialMetrics]) -> float:
    """One query as a share of the queries of a trial; the same query counts in every trial."""
    return 1 / _mean(trials, "queries")


def _one_hit(record: Record) -> float:
    """One query as a share of the queries with a correct clean Rank-1."""
    query = _one_query(record.clean)
    return query / max(_mean(record.clean, "r1"), query)


def _one_image(record: Record) -> float:
    return _one_query(record.clean) * record.size["l2"]


#: Metrics of a victim on a protocol, computed from its clean trials.
CLEAN = (
    Metric("r1", "clean Rank-1, %", lambda trials: _mean(trials, "r1"), _one_query, scale=100, share=True),
    Metric("map", "clean mAP, %", lambda trials: _mean(trials, "map"), _one_query, scale=100, share=True),
)


def _of_change(name: str, label: str, part: str, digits: int, resolution: _Resolution) -> Metric:
    """A size or a cost of an attack, by its name in the record."""

    def value(record: Record) -> float | None:
        return record.size.get(part, record.cost.get(part))

    return Metric(name, label, value, resolution, digits=digits)


def _of_drop(name: str, label: str) -> Metric:
    def value(record: Record) -> float:
        return record.mean("clean", name) - record.mean("adversarial", name)

    def one_query(record: Record) -> float:
        return _one_query(record.clean)

    return Metric(f"drop_{name}", f"drop in {label}, points", value, one_query, _STRONGER, 100, clean=name)


#: Counts are whole numbers up to the rounding of a mean.
_COUNT = 1e-6

#: Metrics of an attack, computed from its record.
ATTACKED = (
    _of_drop("r1", "Rank-1"),
    _of_drop("map", "mAP"),
    Metric("asr", "ASR, %", lambda record: record.asr, _one_hit, _STRONGER, 100, share=True),
    _of_change("l2", "L2 of the change", "l2", 3, _one_image),
    _of_change("linf", "largest change, levels", "linf_levels", 1, lambda _: 0.5),
    _of_change("asked", "largest change handed over, budgets", "asked", 2, lambda _: 0.01),
    _of_change("evaluations", "gradients an image", "evaluations_per_image", 1, lambda _: _COUNT),
    _of_change("fit_evaluations", "gradients a fit", "fit_evaluations", 0, lambda _: _COUNT),
    _of_change("queries", "queries an image", "queries_per_image", 1, lambda _: _COUNT),
)

METRICS = {metric.name: metric for metric in (*CLEAN, *ATTACKED)}

#: The metrics of an attack's strength.
STRENGTH = ("drop_r1", "drop_map", "asr")


def independent(record: Record) -> bool:
    """Whether queries have independent random numbers: each image crafted on its own, the gallery clean."""
    return not record.universal and not record.members and record.config["threat"]["side"] == "query"


def _lost(record: Record) -> np.ndarray:
    """Terms of the success rate, one per query: its lost correct matches over all correct clean matches."""
    clean, adversarial = (record.per_query[f"{which}_rank"].unpack() for which in ("clean", "adversarial"))
    hit = clean == 1
    return (hit & (adversarial != 1)).sum(0) / max(hit.sum(), 1)


def terms(record: Record) -> dict[str, np.ndarray]:
    """Metric name -> its terms, one per query, if queries are independent."""
    if not independent(record):
        return {}
    found = {"asr": _lost(record)}
    for name in ("r1", "map"):
        before, after = per_query(record, name, "clean"), per_query(record, name)
        if before is not None and after is not None:
            found[f"drop_{name}"] = before - after
    return found
