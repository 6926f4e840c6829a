"""Suite -> run specs; exclusions, shards; what a run would refuse."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from vbench.attacks.build import expand as expand_attacks
from vbench.core.errors import BadInput, shortened
from vbench.core.settings import parse
from vbench.core.text import show_left
from vbench.core.threat import parse_budget
from vbench.records.spec import DataSpec, ModelSpec, RunSpec, Setup
from vbench.sweep.read import SuiteFile
from vbench.sweep.suite import Exclusion, Suite, VictimEntry


def task_from(value: Any) -> RunSpec:
    """A task from what ``dataclasses.asdict`` made of it; raises ValueError for anything else."""
    return _TASK.validate_python(value)


def count(suite: Suite) -> int:
    """How many combinations a suite asks for, repeats and what is excluded among them; takes no time."""
    victims = sum(len(entry.texts()) for entry in suite.victims)
    # An ensemble of one stands for each of those that it names in turn.
    surrogates = sum(len(ensemble[0].texts()) if len(ensemble) == 1 else 1 for ensemble in suite.surrogates)
    attacks = sum(len(expand_attacks([entry.spec({})[0]])) for entry in suite.attacks)
    protocols = sum(len(entry.protocol_ids) for entry in suite.datasets)
    threats = max(1, len(suite.eps)) * max(1, len(suite.side))
    return victims * surrogates * attacks * protocols * threats * len(suite.seeds)


def expand(suite: Suite, folder: Path) -> list[RunSpec]:
    """Every task of a suite once, in an order that keeps groups together, what is excluded left out.

    ``folder`` is what relative paths start from. Names ``all`` stand for what is known here.
    """
    made = (
        RunSpec(group, name, tuple(settings.items()), eps, suite.norm, side, suite.quantize, seed)
        for group in groups(suite, folder)
        for name, settings in _attacks(suite, folder)
        for eps in suite.eps or (None,)
        for side in suite.side or (None,)
        for seed in suite.seeds
    )
    return list({task.key: task for task in made}.values())


def groups(suite: Suite, folder: Path) -> list[Setup]:
    """The groups of a suite, in order."""
    found = []
    for entry in suite.datasets:
        root = None if entry.root is None else str(folder / Path(entry.root).expanduser())
        for protocol in entry.protocol_ids:
            name = anchored(entry.name, folder)
            data = DataSpec(entry.called, name, protocol, root, entry.layout, entry.size)
            victims = [model for one in suite.victims for model in models(one, data, folder)]
            for victim in dict.fromkeys(victims):
                for surrogates in _surrogates(suite, data, folder):
                    how = (suite.precision, suite.channels_last, suite.device, suite.ignore_gates)
                    found.append(Setup(data, victim, surrogates, *how))
    return found


def models(entry: VictimEntry, data: DataSpec, folder: Path) -> list[ModelSpec]:
    """What an entry stands for on a dataset."""
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
    """A class given by a file, ``./mine.py:Mine[a=3]``, by that file's full path; other names as they are."""
    name, bracket, settings = text.partition("[")
    file, colon, attribute = name.rpartition(":")
    if not colon or not file.endswith(".py"):
        return text
    return f"{folder / Path(file).expanduser()}:{attribute}{bracket}{settings}"


_TASK = TypeAdapter(RunSpec)

#: A year of runs that take five minutes each.
MOST_RUNS = 100_000

_MOST_LOOKS = 5_000_000


def tasks_of(file: SuiteFile) -> list[RunSpec]:
    """Every task of a suite that is not excluded.

    Raises :class:`BadInput` for a rule that excludes nothing, which is a typo most likely, where nothing is
    left, and for more runs than anybody means.
    """
    suite = file.suite
    asked, rules = count(suite), sum(len(values) for rule in suite.exclude for values in rule.said.values())
    if asked > MOST_RUNS:
        file.refuse([((), f"these are {asked:,} runs, at most {MOST_RUNS:,}; make it several suites")])
    if asked * rules > _MOST_LOOKS:
        file.refuse([(("exclude",), f"{rules:,} rules and values for {asked:,} runs take too long")])
    tasks = expand(suite, file.folder)
    hit = [[_holds(rule, task, file.folder) for task in tasks] for rule in suite.exclude]
    file.refuse(
        (("exclude", index), "this rule excludes nothing") for index, held in enumerate(hit) if not any(held)
    )
    kept = [task for index, task in enumerate(tasks) if not any(held[index] for held in hit)]
    if not kept:
        file.refuse([(("exclude",), "the rules exclude every run")])
    return kept


def _holds(rule: Exclusion, task: RunSpec, folder: Path) -> bool:
    group = task.group

    def named(wanted: str, text: str) -> bool:
        """Whether a text is the wanted name and has the wanted settings, with or without others."""
        wanted = anchored(wanted, folder)
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
    return all(any(map(tests[field], values)) for field, values in rule.said.items())


def parse_shard(text: str) -> tuple[int, int]:
    """Read "2/8", the second of eight; raises :class:`BadInput` for anything that is no such part.

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

    The parts are disjoint, cover everything, and differ by one task at most in size.
    """
    start, stop = len(tasks) * (index - 1) // count, len(tasks) * index // count
    return tasks[start:stop]


class Durations:
    """Seconds of tasks that were done, by kind."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str, str], list[float]] = defaultdict(list)

    def add(self, task: RunSpec, seconds: float) -> None:
        """A task took ``seconds``; nonsense, as of a clock that was set back, is not counted."""
        if seconds > 0:
            self._seconds[task.kind].append(seconds)

    def of(self, task: RunSpec) -> float | None:
        """Seconds that a task may take: as its kind, else as its attack elsewhere; None: unknown."""
        known = self._seconds.get(task.kind)
        if not known:
            attack = task.kind[0]
            known = [one for kind, found in self._seconds.items() if kind[0] == attack for one in found]
        return statistics.fmean(known) if known else None

    def left(self, tasks: Collection[RunSpec], width: int) -> str:
        """The time that tasks need on ``width`` workers, in words; "unknown" where nothing is known."""
        return show_left([self.of(task) for task in tasks], width)
