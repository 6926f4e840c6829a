"""The run specs of a suite: expansion, exclusions, shards; expected durations."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from vbench.attacks.build import expand as expand_attacks
from vbench.attacks.registry import PRICES
from vbench.attacks.registry import attacks as known_attacks
from vbench.core.errors import BadInput, shortened
from vbench.core.settings import parse
from vbench.core.text import show_left
from vbench.core.threat import parse_budget
from vbench.records.record import Record
from vbench.records.spec import DataSpec, ModelSpec, RunSpec, Setup
from vbench.sweep.read import SuiteFile
from vbench.sweep.suite import Exclusion, Suite, VictimEntry
from vbench.victims.registry import victims


def task_from(value: Any) -> RunSpec:
    """The inverse of ``dataclasses.asdict`` for a task; raises ValueError for invalid values."""
    return _TASK.validate_python(value)


def count(suite: Suite) -> int:
    """Number of combinations in a suite, including repeats and excluded ones, without listing them."""
    victims = sum(len(entry.texts()) for entry in suite.victims)
    # A list of one with "all" means every model as a single surrogate, in turn.
    surrogates = sum(len(ensemble[0].texts()) if len(ensemble) == 1 else 1 for ensemble in suite.surrogates)
    attacks = sum(len(expand_attacks([entry.spec({})[0]])) for entry in suite.attacks)
    protocols = sum(len(entry.protocol_ids) for entry in suite.datasets)
    threats = max(1, len(suite.eps)) * max(1, len(suite.side))
    return victims * surrogates * attacks * protocols * threats * len(suite.seeds)


def expand(suite: Suite, folder: Path) -> list[RunSpec]:
    """Every task of a suite once, including excluded ones, group by group.

    Relative paths start from ``folder``. ``all`` means every name known in this installation.
    """
    shared = suite.shared(RunSpec)
    specs = (
        RunSpec(group, name, tuple(settings.items()), eps=eps, side=side, seed=seed, **shared)
        for group in groups(suite, folder)
        for name, settings in _attacks(suite, folder)
        for eps in suite.eps or (None,)
        for side in suite.side or (None,)
        for seed in suite.seeds
    )
    return list({task.key: task for task in specs}.values())


def groups(suite: Suite, folder: Path) -> list[Setup]:
    """The groups of a suite, in order."""
    found = []
    for entry in suite.datasets:
        root = None if entry.root is None else str(folder / Path(entry.root).expanduser())
        for protocol in entry.protocol_ids:
            name = anchored(entry.name, folder)
            own = {"layout": entry.layout, "size": entry.size, **suite.shared(DataSpec)}
            data = DataSpec(entry.called, name, protocol, root, **own)
            victims = [model for one in suite.victims for model in models(one, data, folder)]
            for victim in dict.fromkeys(victims):
                for surrogates in _surrogates(suite, data, folder):
                    found.append(Setup(data, victim, surrogates, **suite.shared(Setup)))
    return found


def models(entry: VictimEntry, data: DataSpec, folder: Path) -> list[ModelSpec]:
    """The models of an entry, with their checkpoint for a dataset."""
    weights = entry.weights_for(data.label, data.protocol)
    path = None if weights is None else str(folder / Path(weights).expanduser())
    return [ModelSpec(anchored(text, folder), path) for text in entry.texts()]


def _surrogates(suite: Suite, data: DataSpec, folder: Path) -> list[tuple[ModelSpec, ...]]:
    found: list[tuple[ModelSpec, ...]] = []
    for ensemble in suite.surrogates:
        members = [model for entry in ensemble for model in models(entry, data, folder)]
        in_turn = len(ensemble) == 1
        found += [(member,) for member in members] if in_turn else [tuple(members)]
    return list(dict.fromkeys(found))


def _attacks(suite: Suite, folder: Path) -> list[tuple[str, dict[str, str]]]:
    found = []
    for entry in suite.attacks:
        name, settings = entry.spec(suite.settings)
        for text in expand_attacks([name]):
            known, inside = parse(text, "attack")
            found.append((anchored(known, folder), {**settings, **inside}))
    return found


def anchored(text: str, folder: Path) -> str:
    """``./mine.py:Mine[a=3]`` or ``model.pt2`` with the path made absolute; other names unchanged."""
    name, bracket, settings = text.partition("[")
    file, colon, attribute = name.rpartition(":")
    if victims.is_file(name):
        return f"{folder / Path(name).expanduser()}{bracket}{settings}"
    if not colon or not file.endswith(".py"):
        return text
    return f"{folder / Path(file).expanduser()}:{attribute}{bracket}{settings}"


_TASK = TypeAdapter(RunSpec)

#: A year of runs of five minutes each.
MOST_RUNS = 100_000

#: Most comparisons of a task with a value of an exclusion.
_MOST_COMPARISONS = 5_000_000


def tasks_of(file: SuiteFile) -> list[RunSpec]:
    """Every task of a suite that is not excluded.

    Raises :class:`BadInput` for a rule that excludes nothing (probably a typo), if no task is left, and for
    more than :data:`MOST_RUNS` runs.
    """
    suite = file.suite
    runs, rules = count(suite), sum(len(values) for rule in suite.exclude for values in rule.given.values())
    if runs > MOST_RUNS:
        file.refuse([((), f"these are {runs:,} runs, at most {MOST_RUNS:,}; make it several suites")])
    if runs * rules > _MOST_COMPARISONS:
        file.refuse([(("exclude",), f"{rules:,} rules and values for {runs:,} runs take too long")])
    tasks = expand(suite, file.folder)
    matches = [[_matches(rule, task, file.folder) for task in tasks] for rule in suite.exclude]
    file.refuse(
        (("exclude", index), "this rule excludes nothing")
        for index, matched in enumerate(matches)
        if not any(matched)
    )
    kept = [task for index, task in enumerate(tasks) if not any(matched[index] for matched in matches)]
    if not kept:
        file.refuse([(("exclude",), "the rules exclude every run")])
    return kept


def _matches(rule: Exclusion, task: RunSpec, folder: Path) -> bool:
    group = task.group

    def named(wanted: str, text: str) -> bool:
        """Whether a text has the wanted name and at least the wanted settings."""
        wanted = anchored(victims.canonical(known_attacks.canonical(wanted)), folder)
        if wanted == text:
            return True
        name, settings = parse(wanted, "name")
        other, given = parse(text, "name")
        return name == other and settings.items() <= given.items()

    def budget(wanted: Any, text: str | None) -> bool:
        return text is not None and parse_budget(wanted, task.norm) == parse_budget(text, task.norm)

    tests: dict[str, Callable[[Any], bool]] = {
        "victim": lambda value: named(value, group.victim.victim),
        "attack": lambda value: named(value, task.attack_text),
        "surrogate": lambda value: value == group.surrogate,
        "dataset": lambda value: value in (group.data.label, group.data.dataset),
        "protocol": lambda value: value == group.data.protocol,
        "eps": lambda value: budget(value, task.eps),
        "side": lambda value: value == task.side,
        "seed": lambda value: value == task.seed,
    }
    return all(any(map(tests[field], values)) for field, values in rule.given.items())


def parse_shard(text: str) -> tuple[int, int]:
    """Read "2/8", the second of eight; raises :class:`BadInput` for an invalid shard.

    >>> parse_shard("2/8")
    (2, 8)
    """
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    if match is None:
        raise BadInput(f"shard '{shortened(text)}' must look like 2/8, the second of eight")
    index, count = int(match[1]), int(match[2])
    if not 1 <= index <= count:
        count = count or 8
        raise BadInput(
            f"shard '{shortened(text)}' does not exist: shards are counted from 1/{count} to {count}/{count}"
        )
    return index, count


def shard(tasks: list[RunSpec], index: int, count: int) -> list[RunSpec]:
    """Part ``index`` (from 1) of ``count``: consecutive tasks, so that a shard opens few victims.

    The parts are disjoint, contain every task, and differ in size by at most one.
    """
    start, stop = len(tasks) * (index - 1) // count, len(tasks) * index // count
    return tasks[start:stop]


#: Attack with its settings, victim (with surrogates) and protocol: :attr:`RunSpec.kind`.
Kind = tuple[str, str, str]


class Durations:
    """Seconds of runs by kind: of those that were added, else of ``records``, for learning and attacking."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._added: dict[Kind, list[float]] = defaultdict(list)
        self._recorded: dict[Kind, list[float]] = defaultdict(list)
        self._means: dict[Kind, float | None] = {}
        for record in records:
            if record.seconds:
                self._recorded[record.label, record.victim_label, record.protocol].append(record.seconds)

    def add(self, task: RunSpec, seconds: float) -> None:
        """Add the duration of a task; negative ones, from a clock that was set back, are ignored."""
        if seconds > 0:
            self._added[task.kind].append(seconds)
            self._means.clear()

    def of(self, task: RunSpec) -> float | None:
        """Expected seconds of a task: the mean of similar ones; None if none is known.

        Similar are, in this order: the same attack with its settings, victim and protocol; any protocol; the
        same attack on this victim; for a fit, any fit on this victim; the same attack on any victim, first
        with the same settings. Fits with other settings are scaled by their gradient evaluations.
        """
        kind = task.kind
        if kind not in self._means:
            self._means[kind] = self._mean(kind)
        return self._means[kind]

    def _mean(self, wanted: Kind) -> float | None:
        text, models, _ = wanted
        name, fit = _fit(text)
        rules: tuple[Callable[[Kind], bool], ...] = (
            lambda kind: kind == wanted,
            lambda kind: kind[:2] == (text, models),
            lambda kind: kind[1] == models and _fit(kind[0])[0] == name,
            lambda kind: kind[1] == models and bool(fit and _fit(kind[0])[1]),
            lambda kind: kind[0] == text,
            lambda kind: _fit(kind[0])[0] == name,
        )
        for similar, known in product(rules, (self._added, self._recorded)):
            found = [
                seconds * (fit / (_fit(kind[0])[1] or fit) if fit else 1.0)
                for kind in filter(similar, known)
                for seconds in known[kind]
            ]
            if found:
                return statistics.fmean(found)
        return None

    def left(self, tasks: Collection[RunSpec], width: int = 1) -> str:
        """The time that tasks need on ``width`` workers, as text; "unknown" without any duration."""
        return show_left([self.of(task) for task in tasks], width)


@cache
def _fit(text: str) -> tuple[str, float]:
    """The name of an attack, and the gradient evaluations of its fit, 0 without one."""
    try:
        name, settings = parse(text, "attack")
    except BadInput:
        # A file of states may hold any text.
        return text, 0.0
    price = PRICES.get(name)
    asked = settings.get("evaluations", "")
    return name, float(asked) if asked.isdigit() else price.gradients if price and price.fit else 0.0
