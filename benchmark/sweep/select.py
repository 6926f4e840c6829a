"""The tasks that a sweep is about: those of the suite, less what it excludes, or one shard of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vbench.budget import parse_budget
from vbench.errors import BadInput, shortened
from vbench.spec import parse
from vbench.sweep.entries import Exclusion
from vbench.sweep.load import SuiteFile
from vbench.sweep.tasks import Task, anchored, count, expand

#: A year of runs that take five minutes each.
MOST_RUNS = 100_000
_MOST_LOOKS = 5_000_000


def tasks_of(file: SuiteFile) -> list[Task]:
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


def _holds(rule: Exclusion, task: Task, folder: Path) -> bool:
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


def shard(tasks: list[Task], index: int, count: int) -> list[Task]:
    """Part ``index`` (from 1) of ``count``: consecutive tasks, so that a shard opens few victims.

    The parts are disjoint, cover everything, and differ by one task at most in size.
    """
    start, stop = len(tasks) * (index - 1) // count, len(tasks) * index // count
    return tasks[start:stop]
