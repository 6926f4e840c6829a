"""Do the runs of a gate; stored records are never reused."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vbench.attacks.perturbation import Perturbation
from vbench.core.arithmetic import default_arithmetic
from vbench.core.environment import environment
from vbench.core.plugins import reason
from vbench.core.progress import say
from vbench.gate.baseline import Measured, Place
from vbench.gate.figures import ATTACKED, CLEAN, PARTS, Metric, independent
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

    def add_parts(self, record: Record) -> None:
        """Add the terms of each query, if queries are independent."""
        if independent(record):
            for name, part in PARTS.items():
                self.parts.setdefault(name, []).append(part(record))

    def spreads(self) -> dict[str, Spread]:
        """Statistics of the metrics that every successful seed has."""
        most = max(map(len, self.values.values()), default=0)
        return {
            name: Spread.of(values, max(self.resolutions[name]), self._parts(name))
            for name, values in self.values.items()
            if len(values) == most
        }

    def _parts(self, name: str) -> np.ndarray | None:
        found = self.parts.get(name)
        return np.stack(found) if found else None

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
) -> Takings:
    """Run everything in the request with every seed; run records are stored in the folder ``keep``, if given.

    A run that fails is noted and the others continue. Raises :class:`BadInput` if a name, a file or a setting
    of the request does not exist.
    """
    store = RunStore(keep) if keep else None
    takings = Takings()
    learnt: dict[str, Perturbation] = {}
    session = Session(keep, force=True, quiet=quiet)
    for spec, run in session.each(request.specs(seeds, device)):
        victim, attack, protocol = spec.group.victim.victim, spec.attack, run.bench.dataset.protocol
        on_victim = Place(victim=victim, protocol=protocol)
        if not takings.victims or takings.victims[-1].place != on_victim:
            takings.victims.append(_clean(on_victim, run.bench))
            takings.environment = environment(example_tensor(run.bench.victim).device)
        place = Place(victim=victim, protocol=protocol, attack=attack)
        if not takings.attacks or takings.attacks[-1].place != place:
            say(f"{place}: {len(seeds)} seeds", quiet)
            takings.attacks.append(Taken(place, _without_seed(run)))
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
    taken.add_parts(record)
    return record


def _without_seed(run: Run) -> dict[str, Any]:
    return {name: value for name, value in run.config().items() if name not in ("seed", "perturbation")}


def _pixels(bench: Bench) -> str:
    """A hash of the decoded test images: files may have changed under the same names."""
    digest = hashlib.sha256()
    for side, pixels in bench.pixels.items():
        digest.update(f"{side.value}{pixels.shape}".encode())
        digest.update(pixels.tobytes())
    return digest.hexdigest()[:16]
