"""The runs that the suites of the paper need, each listed once, and how long they take."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any, NamedTuple

from vbench.attacks.base import Attack
from vbench.attacks.build import label
from vbench.attacks.perturbation import Perturbation
from vbench.core.environment import environment
from vbench.core.errors import BadInput
from vbench.core.seeds import check_seed
from vbench.core.text import show_left
from vbench.core.threat import ThreatModel
from vbench.data.base import Dataset
from vbench.records.record import Record, config_id
from vbench.records.spec import ModelSpec, RunSpec, Setup
from vbench.run.bench import Bench
from vbench.run.execute import Run
from vbench.run.prepare import Opener
from vbench.run.session import Session, threat_of
from vbench.sweep.paper.checkpoints import Checkpoints
from vbench.sweep.paper.suite import ANY_STAGES, Line, Place, Settings, Slot, Suite, has_modules
from vbench.victims.base import example_tensor
from vbench.victims.build import expand_victims


def at_feature_level(attack: Any) -> Attack | None:
    """For an attack at pixel level with modules: the same at feature level; None for any other."""
    if attack.name != "fsam_uap" or attack.tampers or not has_modules(attack):
        return None
    return dataclasses.replace(attack, level="feature")


def without_modules(learnt: Perturbation, attack: Attack) -> Perturbation:
    """The perturbation of ``attack``, at pixel level, from the one that its twin at feature level learnt."""
    stripped = dataclasses.replace(learnt, modules={})
    return stripped.with_provenance(settings=attack.settings(), digest=stripped.digest)


@dataclass(frozen=True)
class Request:
    """Suites with their victims, on one data set.

    ``like``: a spec with the data, threat model, precision and device of all runs. ``protocols``: "" is the
    data set's default. ``levels``: of :data:`vbench.sweep.paper.suite.LEVELS`. :func:`make_plan` checks all.
    """

    suites: Mapping[str, Suite]
    victims: Mapping[str, Sequence[str]]
    like: RunSpec
    checkpoints: Checkpoints
    settings: Settings
    protocols: Sequence[str] = ("",)
    seeds: Sequence[int] = (0,)
    levels: Sequence[str] = ("pixel", "feature")

    @property
    def all_victims(self) -> list[str]:
        """All victims, each once."""
        return list(dict.fromkeys(name for names in self.victims.values() for name in names))

    @property
    def threat(self) -> ThreatModel:
        """The threat model of all runs."""
        return threat_of(self.like)

    def setup(self, victim: str, protocol: str, dataset: Dataset) -> Setup:
        """A victim with its checkpoint for a protocol; ``dataset``: the opened data of the protocol."""
        setup = self.like.group
        file = self.checkpoints.of(victim, dataset.protocol)
        model = ModelSpec(victim, None if file is None else str(file))
        return replace(setup, data=replace(setup.data, protocol=protocol), victim=model)


@dataclass(frozen=True)
class Job:
    """One run to be done; runs of one ``kind`` take about equally long."""

    id: str
    protocol: str
    victim: str
    attack: Any
    seed: int
    name: str
    kind: Kind


@dataclass(frozen=True)
class Plan:
    """``jobs``: the runs of the slots by record id; those of one victim and protocol follow each other."""

    slots: list[Slot]
    jobs: dict[str, Job]
    device: str
    notes: list[str] = field(default_factory=list)

    def twin(self, job: Job) -> Job | None:
        """The job at feature level with the same fit as a job at pixel level; None if there is none."""
        wanted = at_feature_level(job.attack)
        return next(
            (
                one
                for one in self.jobs.values()
                if (one.attack, one.seed, one.victim, one.protocol)
                == (wanted, job.seed, job.victim, job.protocol)
            ),
            None,
        )

    def in_order(self) -> list[Job]:
        """All jobs, each twin before the job that reuses its fit."""
        pairs = [(self.twin(job), job) for job in self.jobs.values()]
        return list(dict.fromkeys(one for pair in pairs for one in pair if one is not None))


class Benches:
    """The benches of a :class:`Session` by victim and protocol."""

    def __init__(self, request: Request, session: Session) -> None:
        self._request = request
        self._session = session

    def check(self) -> None:
        """Raise :class:`BadInput`, before any victim is trained, if one cannot be opened."""
        request = self._request
        expand_victims(request.all_victims)
        for protocol in request.protocols:
            Opener(self._setup(protocol)).check()
        for protocol in request.protocols:
            dataset = self._dataset(protocol)
            setups = [request.setup(name, protocol, dataset) for name in request.all_victims]
            self._session.open(setups)

    def open(self, victim: str, protocol: str) -> Bench:
        """The bench of a victim; raises :class:`BadInput` if it cannot be opened."""
        return self._session.bench(self._request.setup(victim, protocol, self._dataset(protocol)))

    def _dataset(self, protocol: str) -> Dataset:
        return self._session.dataset(self._setup(protocol))

    def _setup(self, protocol: str) -> Setup:
        setup = self._request.like.group
        return replace(setup, data=replace(setup.data, protocol=protocol))


def make_plan(request: Request, opener: Benches) -> Plan:
    """Open every victim once and list its runs.

    Raises :class:`BadInput`, before any run, for unknown names and settings, and for victims, data or
    checkpoints that do not fit. A row that does not apply to a victim becomes a slot with the reason.
    """
    request.settings.check(list(request.suites.values()))
    request.checkpoints.check(request.all_victims)
    for seed in request.seeds:
        check_seed(seed)
    opener.check()
    plan = Plan([], {}, "")
    for protocol in request.protocols:
        for victim in request.all_victims:
            bench = opener.open(victim, protocol)
            plan = dataclasses.replace(plan, device=_device(bench))
            for suite in request.suites.values():
                if victim in request.victims[suite.name]:
                    for slot, job in _slots(request, suite, victim, protocol, bench):
                        plan.slots.append(slot)
                        if job is not None:
                            plan.jobs.setdefault(job.id, job)
    plan.notes.extend(_without_modules(request))
    return plan


def _slots(
    request: Request, suite: Suite, victim: str, protocol: str, bench: Bench
) -> Iterator[tuple[Slot, Job | None]]:
    place = Place(
        bench.dataset.protocol,
        bench.dataset.synthetic,
        len(bench.dataset.trials),
        tuple(request.threat.card().items()),
    )
    for level in request.levels:
        for line in _lines(request, suite, level):
            for seed in request.seeds:
                slot = Slot(suite, line, level, victim, place, seed)
                try:
                    attack = request.settings.attack(line, level, bench.victim.stages)
                    run = Run(bench, attack, request.threat, seed)
                    run.check()
                except BadInput as error:
                    yield dataclasses.replace(slot, unfit=str(error)), None
                    continue
                name = label(attack)
                slot = dataclasses.replace(slot, id=config_id(run.config()), label=name)
                evaluations = getattr(attack, "evaluations", 0)
                kind = kind_of(bench.victim.name, bench.victim.describe(), attack.name, name, evaluations)
                title = f"{bench.victim_label()} {name}, seed {seed}, {bench.dataset.protocol}"
                yield slot, Job(slot.id, protocol, victim, attack, seed, title, kind)


def _lines(request: Request, suite: Suite, level: str) -> list[Line]:
    """The rows of a suite at a level; none at feature level if no attack has modules."""
    if level == "pixel":
        return list(suite.lines)
    lines = [line for line in suite.lines if line.levelled]
    return lines if any(_modules(request, line) for line in lines) else []


def _modules(request: Request, line: Line) -> bool:
    return has_modules(request.settings.attack(line, "pixel", ANY_STAGES))


def _without_modules(request: Request) -> list[str]:
    if "feature" not in request.levels:
        return []
    return [
        f"{suite.name}: preset {request.settings.preset} has no modules, so there is no feature level"
        for suite in request.suites.values()
        if not _lines(request, suite, "feature")
    ]


def _device(bench: Bench) -> str:
    return environment(example_tensor(bench.victim).device)["device_name"]


class Kind(NamedTuple):
    """What the duration of a run depends on: victim with options, attack, and its label with all settings.

    ``evaluations``: gradient evaluations of a fit, 0 for an attack without a fit.
    """

    victim: str
    attack: str
    label: str
    evaluations: int = 0


def kind_of(
    victim: str, options: Mapping[str, object], attack: str, label: str, evaluations: float = 0
) -> Kind:
    """The kind of a run."""
    return Kind(f"{victim} {sorted(options.items())}", attack, label, round(evaluations))


class Durations:
    """Seconds by kind of run.

    Records have the time of learning and crafting; those of the same kind of device are used. Durations from
    :meth:`add` are of whole runs and are preferred to records.
    """

    def __init__(self, records: Iterable[Record] = (), device: str = "") -> None:
        self._recorded: dict[Kind, list[float]] = {}
        self._measured: dict[Kind, list[float]] = {}
        for record in records:
            fitted = record.cost.get("fit_seconds", 0.0)
            seconds = fitted + record.cost.get("attack_seconds", 0.0)
            if record.environment.get("device_name") == device and seconds:
                victim, attack = record.config["victim"], record.config["attack"]
                learnt = record.cost.get("fit_evaluations", 0)
                kind = kind_of(
                    victim["name"], victim.get("options", {}), attack["name"], record.label, learnt
                )
                self._recorded.setdefault(kind, []).append(seconds)

    def add(self, kind: Kind, seconds: float) -> None:
        """Add the duration of a run."""
        self._measured.setdefault(kind, []).append(seconds)

    def of(self, kind: Kind) -> float | None:
        """Expected seconds of a run of this kind; None if no similar one is known.

        Similar runs are, in this order: the same victim, attack and settings; the same victim and attack with
        other settings; for a fit, any fit on the same victim; the same attack on any victim. Fits with other
        settings are scaled by their gradient evaluations.
        """
        rules: tuple[Callable[[Kind], bool], ...] = (
            lambda one: (one.victim, one.label) == (kind.victim, kind.label),
            lambda one: (one.victim, one.attack) == (kind.victim, kind.attack),
            lambda one: one.victim == kind.victim and bool(kind.evaluations and one.evaluations),
            lambda one: one.attack == kind.attack,
        )
        for similar in rules:
            for known in (self._measured, self._recorded):
                found = [
                    seconds * _scale(kind, one)
                    for one, times in known.items()
                    if similar(one)
                    for seconds in times
                ]
                if found:
                    return mean(found)
        return None

    def left(self, kinds: Sequence[Kind]) -> str:
        """The expected time of runs of these kinds together, as text."""
        return show_left([self.of(kind) for kind in kinds], unknown="time unknown until a run is done")


def _scale(kind: Kind, other: Kind) -> float:
    # Not scaled for equal settings: a fit may use slightly fewer evaluations than its budget.
    if kind.label == other.label or not (kind.evaluations and other.evaluations):
        return 1.0
    return kind.evaluations / other.evaluations
