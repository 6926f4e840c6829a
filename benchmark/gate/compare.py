"""Make, check and update a baseline: runs, a verdict for every metric, and likely causes of changes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from vbench.attacks.perturbation import Perturbation
from vbench.attacks.registry import attacks
from vbench.core.arithmetic import default_arithmetic
from vbench.core.environment import environment
from vbench.core.errors import BadInput, VbenchError
from vbench.core.plugins import reason
from vbench.core.progress import say
from vbench.core.registry import Registry
from vbench.core.settings import parse
from vbench.data.registry import datasets
from vbench.data.synthetic.embedded import SyntheticSet
from vbench.gate.baseline import (
    ATTACKED,
    CLEAN,
    METRICS,
    Baseline,
    Measured,
    Metric,
    Place,
    now,
    resolved,
    stored,
    terms,
)
from vbench.metrics.statistics import Spread
from vbench.records.record import IDENTITY, Record
from vbench.records.spec import Request
from vbench.records.store import RunStore
from vbench.run.bench import Bench
from vbench.run.execute import Run
from vbench.run.failures import LOSES_A_RUN
from vbench.run.session import Session
from vbench.run.summary import trial_metrics
from vbench.victims.base import example_tensor
from vbench.victims.registry import victims

#: Parts of a configuration that must not differ: other weights or data cannot be compared.
_IDENTITY = {
    "victim.weights": "other weights",
    "surrogate.weights": "other weights of the surrogate",
    "dataset.fingerprint": "other test images or another protocol",
    "dataset.training": "other training images",
}

#: Hashes of data, which can be compared only between configurations of the same "identity" version.
_HASHES_OF_DATA = ("dataset.fingerprint", "dataset.training")


def other_subject(subject: Measured, taken: Taken) -> list[str]:
    """Why a re-run cannot be compared with the baseline; differences of victim and data only once."""
    return [
        f"{_IDENTITY[name]}: {old} -> {new}"
        for name, old, new in _compared(subject, taken)
        if name in _IDENTITY and not _reported_for_victim(subject, name)
    ]


def causes(baseline: Baseline, takings: Takings) -> list[str]:
    """One line per difference in configuration and environment, other weights and data first."""
    found = {one.place.key: one for one in (*takings.victims, *takings.attacks)}
    lines: list[str] = []
    for subject in baseline.subjects:
        taken = found.get(subject.key)
        differences = _compared(subject, taken) if taken else []
        for name, old, new in sorted(differences, key=lambda one: one[0] not in _IDENTITY):
            if not _reported_for_victim(subject, name):
                lines.append(f"{subject}: {_described(name)}: {old} -> {new}")
    for name, old, new in _differences(baseline.environment, takings.environment):
        lines.append(f"{name.removeprefix('versions.').replace('_', ' ')}: {old} -> {new}")
    return lines


def _reported_for_victim(subject: Measured, name: str) -> bool:
    """Whether a difference of an attack is also one of its victim, and so is reported there."""
    # Training images are only in the configurations of attacks that use them.
    shared = name.partition(".")[0] in ("victim", "dataset", "identity") and name != "dataset.training"
    return bool(subject.attack) and shared


def _described(name: str) -> str:
    if name == "pixels":
        return "decoded images (another decoder, or files that were replaced)"
    if name == "identity":
        return "kind of configuration (hashes of data are not compared; --update writes today's)"
    return _IDENTITY.get(name, name)


def _compared(subject: Measured, taken: Taken) -> list[tuple[str, Any, Any]]:
    """Differences between two configurations; between versions, only of the fields that both have."""
    found = _differences(subject.config, taken.config)
    if subject.config.get("identity") == taken.config.get("identity"):
        return found
    same = [one for one in found if "absent" not in one[1:] and one[0] not in _HASHES_OF_DATA]
    return [*same, ("identity", *(config.get("identity", 1) for config in (subject.config, taken.config)))]


def _differences(old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    before, after = dict(_flat(old)), dict(_flat(new))
    names = dict.fromkeys((*before, *after))
    # JSON has no tuples, so compare as text.
    return [
        (name, before.get(name, "absent"), after.get(name, "absent"))
        for name in names
        if str(before.get(name, "absent")) != str(after.get(name, "absent"))
    ]


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, (list, tuple)):
        yield prefix, list(value)
    else:
        yield prefix, value


class Verdict(str, Enum):
    """The verdict on a metric; all but SAME and WITHIN turn a gate red.

    UNGUARDED: its bound is so wide that any result would be allowed.
    """

    SAME = "same"
    WITHIN = "within"
    UP = "up"
    DOWN = "down"
    MISSING = "missing"
    FAILED = "failed"
    CHANGED = "changed"
    UNGUARDED = "cannot guard"

    @property
    def red(self) -> bool:
        """Whether the verdict turns the gate red."""
        return self not in (Verdict.SAME, Verdict.WITHIN)


@dataclass(frozen=True)
class Floor:
    """The lowest value of a figure that passes; ``asked``: given by the user, not from the baseline's."""

    least: float
    asked: bool = False


@dataclass(frozen=True)
class Row:
    """One metric of one victim or attack, or, in ``note``, another problem with it.

    ``before``, ``now``: over the baseline's seeds and over those of the re-run; ``bound``: largest allowed
    difference of their means, or ``floor``: of another model. All None if there is only a ``note``.
    """

    subject: Measured
    verdict: Verdict
    metric: Metric | None = None
    before: Spread | None = None
    now: Spread | None = None
    bound: float | None = None
    note: str = ""
    floor: Floor | None = None

    @property
    def change(self) -> float | None:
        """New mean minus the old one."""
        return self.now.mean - self.before.mean if self.now and self.before else None

    @property
    def fall(self) -> float | None:
        """How far a model lies below the baseline's figure, or below a floor that was asked for."""
        if self.floor is None or self.now is None or self.verdict is not Verdict.DOWN:
            return None
        before = None if self.floor.asked else self.before
        return (self.floor.least if before is None else before.mean) - self.now.mean

    @property
    def word(self) -> str:
        """The verdict in words that fit the metric: "stronger" and "weaker" for attacks."""
        if self.metric and self.verdict in (Verdict.UP, Verdict.DOWN):
            return self.metric.words[self.verdict is Verdict.DOWN]
        return self.verdict.value


@dataclass(frozen=True)
class Gate:
    """The outcome. ``causes``: differences in configuration and environment. ``seconds``: by subject."""

    baseline: Baseline
    seeds: tuple[int, ...]
    rows: list[Row]
    causes: list[str] = field(default_factory=list)
    seconds: dict[tuple[str, str, str], float] = field(default_factory=dict)

    @property
    def of_model(self) -> bool:
        """Whether a model was compared with floors, and not the project with its baseline."""
        return any(row.floor for row in self.rows)

    @property
    def moved(self) -> list[Row]:
        """The red rows, without the unguarded ones."""
        return [row for row in self.rows if row.verdict.red and row.verdict is not Verdict.UNGUARDED]

    @property
    def unguarded(self) -> list[Row]:
        """The metrics for which any result would be allowed."""
        return [row for row in self.rows if row.verdict is Verdict.UNGUARDED]

    @property
    def green(self) -> bool:
        """Whether every metric is guarded and within its bound."""
        return not self.moved and not self.unguarded


def compare(baseline: Baseline, takings: Takings, seeds: Sequence[int]) -> Gate:
    """Compare what was measured with ``seeds`` with the baseline, metric by metric."""
    found = {one.place.key: one for one in (*takings.victims, *takings.attacks)}
    unguarded = {(one.subject.key, one.metric): one.needed for one in baseline.unguarded(len(seeds))}
    rows: list[Row] = []
    for subject in baseline.subjects:
        taken = found.get(subject.key)
        if taken is None:
            rows.append(Row(subject, Verdict.MISSING, note="was not run"))
        else:
            rows += _rows(baseline, subject, taken, unguarded)
    return Gate(
        baseline,
        tuple(seeds),
        rows,
        causes(baseline, takings),
        {key: one.seconds for key, one in found.items()},
    )


def _rows(
    baseline: Baseline,
    subject: Measured,
    taken: Taken,
    unguarded: Mapping[tuple[tuple[str, str, str], str], int | None],
) -> Iterator[Row]:
    for note in other_subject(subject, taken):
        yield Row(subject, Verdict.CHANGED, note=note)
    for why in dict.fromkeys(taken.failures.values()):
        yield Row(subject, Verdict.FAILED, note=why)
    now = taken.spreads()
    for name, before in subject.metrics.items():
        if name in now:
            bound, key = baseline.bound(before, now[name].n), (subject.key, name)
            verdict = Verdict.UNGUARDED if key in unguarded else _verdict(before, now[name], bound)
            note = seeds_text(unguarded[key]) if key in unguarded else ""
            yield Row(subject, verdict, METRICS[name], before, now[name], bound, note)
        elif not taken.failures:
            yield Row(subject, Verdict.MISSING, METRICS[name], before, note="has no value any more")


def seeds_text(needed: int | None) -> str:
    """How many seeds would be enough to guard a metric."""
    return "(no number of seeds would do)" if needed is None else f"({needed} seeds would do)"


def _verdict(before: Spread, now: Spread, bound: float) -> Verdict:
    if before.values[: now.n] == now.values:
        return Verdict.SAME
    change = now.mean - before.mean
    if abs(change) <= bound:
        return Verdict.WITHIN
    return Verdict.UP if change > 0 else Verdict.DOWN


def make_baseline(
    request: Request,
    seeds: Sequence[int],
    folder: Path,
    false_alarm: float,
    device: str = "auto",
    quiet: bool = False,
    keep: Path | None = None,
    allow_code: bool = False,
) -> Baseline:
    """Run everything with every seed, for a baseline that will be stored in ``folder``.

    Raises :class:`VbenchError` if a run fails.
    """
    request = request.expanded()
    takings = measure(request, seeds, device, quiet, keep, allow_code)
    kept, drawn = stored(request, folder)
    return _from(takings, kept, drawn, seeds, false_alarm)


def check_against(
    baseline: Baseline,
    folder: Path,
    seeds: Sequence[int],
    root: Path | None = None,
    weights: Path | None = None,
    device: str = "auto",
    quiet: bool = False,
    keep: Path | None = None,
    allow_code: bool = False,
) -> tuple[Gate, Takings]:
    """Run a baseline's configurations again and compare; ``folder`` is that of the baseline's file."""
    request = resolved(baseline, folder, root, weights, quiet)
    takings = measure(request, seeds, device, quiet, keep, allow_code)
    return compare(baseline, takings, seeds), takings


def updated(baseline: Baseline, takings: Takings, seeds: Sequence[int]) -> Baseline:
    """A new baseline from the results of a re-run. Raises :class:`VbenchError` if a run failed."""
    return _from(takings, baseline.request, baseline.drawn, seeds, baseline.false_alarm)


def seeds_for(baseline: Baseline, count: int | None, first: int | None) -> tuple[int, ...]:
    """``count`` seeds (default: as many as the baseline), the baseline's own or counted from ``first``."""
    count = len(baseline.seeds) if count is None else count
    if count < 1:
        raise BadInput(f"--seeds {count}: a gate needs at least one seed")
    if first is not None:
        return tuple(range(first, first + count))
    further = max(baseline.seeds) + 1
    return (*baseline.seeds, *range(further, further + count))[:count]


def code_named(request: Request) -> list[str]:
    """The victims, attacks and data sets of a request given by path or module, whose code would run."""
    texts: list[tuple[Registry, str]] = [(victims, text) for text in (*request.victims, *request.surrogates)]
    texts += [(attacks, text) for text in request.attacks]
    texts.append((datasets, request.dataset))
    return [text for registry, text in texts if registry.by_path(parse(text, registry.kind)[0])]


def _from(
    takings: Takings, request: Request, drawn: SyntheticSet | None, seeds: Sequence[int], false_alarm: float
) -> Baseline:
    failures = takings.failures
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise VbenchError(f"no baseline without every run: {failures[0]}{more}")
    return Baseline(
        created=now(),
        request=request,
        drawn=drawn,
        seeds=tuple(seeds),
        false_alarm=false_alarm,
        victims=[one.measured() for one in takings.victims],
        attacks=[one.measured() for one in takings.attacks],
        environment=takings.environment,
    )


@dataclass
class Taken:
    """Results of one victim, or of one attack on it, over the seeds.

    ``values`` and ``resolutions``: by metric, one entry per successful seed; ``parts`` likewise, the terms of
    metrics that are sums over independent queries. ``failures``: seed -> reason.
    """

    place: Place
    config: dict[str, Any] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=dict)
    resolutions: dict[str, list[float]] = field(default_factory=dict)
    parts: dict[str, list[np.ndarray]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, metrics: Sequence[Metric], source: Any) -> None:
        """Add every metric that ``source`` (clean trials or a record) has."""
        for metric in metrics:
            value = metric.value(source)
            if value is not None:
                self.values.setdefault(metric.name, []).append(value)
                self.resolutions.setdefault(metric.name, []).append(metric.resolution(source))

    def spreads(self) -> dict[str, Spread]:
        """Statistics of the metrics that every successful seed has."""
        most = max(map(len, self.values.values()), default=0)
        parts = {name: np.stack(found) for name, found in self.parts.items()}
        return {
            name: Spread.of(values, max(self.resolutions[name]), parts.get(name))
            for name, values in self.values.items()
            if len(values) == most
        }

    def measured(self) -> Measured:
        """The entry for a baseline."""
        return Measured(**self.place.model_dump(), config=self.config, metrics=self.spreads())


@dataclass
class Takings:
    """Everything that was measured; ``environment`` as in a run record."""

    victims: list[Taken] = field(default_factory=list)
    attacks: list[Taken] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def failures(self) -> list[str]:
        """A line for every run that failed."""
        found = [(one, seed, why) for one in self.attacks for seed, why in one.failures.items()]
        return [f"{one.place}, seed {seed}: {why}" for one, seed, why in found]


@default_arithmetic()
def measure(
    request: Request,
    seeds: Sequence[int],
    device: str = "auto",
    quiet: bool = False,
    keep: Path | None = None,
    allow_code: bool = False,
) -> Takings:
    """Run everything in the request with every seed; run records are stored in the folder ``keep``, if given.

    A run that fails is noted and the others continue. Raises :class:`BadInput` if a name, a file or a setting
    of the request does not exist.
    """
    store = RunStore(keep) if keep else None
    takings = Takings()
    learnt: dict[str, Perturbation] = {}
    session = Session(keep, force=True, quiet=quiet)
    for spec, run in session.each(request.specs(seeds, device=device, allow_code=allow_code)):
        victim, attack, protocol = spec.group.victim.victim, spec.attack, run.bench.dataset.protocol
        on_victim = Place(victim=victim, protocol=protocol)
        if not takings.victims or takings.victims[-1].place != on_victim:
            takings.victims.append(_clean(on_victim, run.bench))
            takings.environment = environment(example_tensor(run.bench.victim).device)
        place = Place(victim=victim, protocol=protocol, attack=attack)
        if not takings.attacks or takings.attacks[-1].place != place:
            say(f"{place}: {len(seeds)} seeds", quiet)
            config = {
                name: value for name, value in run.config().items() if name not in ("seed", "perturbation")
            }
            takings.attacks.append(Taken(place, config))
        record = _attacked(takings.attacks[-1], run, quiet, learnt)
        if store and record:
            store.write(record)
    return takings


def _clean(place: Place, bench: Bench) -> Taken:
    taken, started = Taken(place), time.perf_counter()
    taken.config = {
        "identity": IDENTITY,
        "victim": bench.victim_card(),
        "dataset": bench.data_card(),
        "pixels": _pixels(bench),
    }
    try:
        taken.add(CLEAN, trial_metrics(bench, bench.clean_trials))
    except LOSES_A_RUN as error:
        taken.failures[0] = reason(error)
    taken.seconds = time.perf_counter() - started
    return taken


def _attacked(taken: Taken, run: Run, quiet: bool, learnt: dict[str, Perturbation]) -> Record | None:
    started = time.perf_counter()
    try:
        record, _ = run.execute(quiet, learnt)
    except LOSES_A_RUN as error:
        taken.failures[run.seed] = reason(error)
        return None
    finally:
        taken.seconds += time.perf_counter() - started
    taken.add(ATTACKED, record)
    for name, part in terms(record).items():
        taken.parts.setdefault(name, []).append(part)
    return record


def _pixels(bench: Bench) -> str:
    """A hash of the decoded test images: files may have changed under the same names."""
    digest = hashlib.sha256()
    for side, pixels in bench.pixels.items():
        digest.update(f"{side.value}{pixels.shape}".encode())
        digest.update(pixels.tobytes())
    return digest.hexdigest()[:16]
