"""From a suite to its tasks. One task is one run, with all it needs to be done anywhere, as plain values.

Tasks that share a :class:`Group` share an opened victim, its clean embeddings and its data: a worker keeps a
group open and is given its tasks one after the other. What is retried, and what a killed worker costs, is a
task.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from vbench.attack_spec import expand as expand_attacks
from vbench.spec import parse
from vbench.sweep.entries import VictimEntry
from vbench.sweep.suite import NONE, Suite

#: Do not change what is computed, so the same task with another of these is the same task.
_BESIDE = ("label", "device", "ignore_gates")


@dataclass(frozen=True)
class Model:
    """A victim as text with its options, and its checkpoint; None: a thin one, trained on synthetic data."""

    victim: str
    weights: str | None = None


@dataclass(frozen=True)
class Data:
    """A dataset under one protocol; ``label`` is what the suite calls it, ``size`` that of drawn images.

    The protocol is "" where that is for a reader from outside to say.
    """

    label: str
    dataset: str
    protocol: str
    root: str | None = None
    layout: str = "sysu"
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Group:
    """What tasks share: data, victim, surrogates (none: white box), and how the victim computes."""

    data: Data
    victim: Model
    surrogates: tuple[Model, ...] = ()
    precision: str = "auto"
    channels_last: bool | None = None
    device: str = "auto"
    ignore_gates: bool = False

    @property
    def models(self) -> tuple[Model, ...]:
        """The victim and its surrogates."""
        return (self.victim, *self.surrogates)

    @property
    def surrogate(self) -> str:
        """Names of the surrogates, or "none"."""
        return "+".join(model.victim for model in self.surrogates) or NONE


@dataclass(frozen=True)
class Task:
    """One run. ``eps`` and ``side`` are None where the suite leaves them to the attack's preset."""

    group: Group
    attack: str
    settings: tuple[tuple[str, str], ...] = ()
    eps: str | None = None
    norm: str = "linf"
    side: str | None = None
    quantize: bool = True
    seed: int = 0

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that name the task; the same suite gives the same ones anywhere."""
        return digest(_without(asdict(self), _BESIDE))

    @property
    def attack_text(self) -> str:
        """The attack with its settings, as ``vbench run`` takes it."""
        inside = ",".join(f"{name}={value}" for name, value in self.settings)
        return f"{self.attack}[{inside}]" if inside else self.attack

    @property
    def columns(self) -> dict[str, str]:
        """What a table says of it."""
        return {
            "victim": self.group.victim.victim,
            "attack": self.attack_text,
            "surrogate": self.group.surrogate,
            "dataset": self.group.data.label,
            "protocol": self.group.data.protocol,
            "eps": self.eps or "",
            "side": self.side or "",
            "seed": str(self.seed),
        }

    @property
    def title(self) -> str:
        """One line that names it."""
        victim, surrogate = self.group.victim.victim, self.group.surrogate
        parts = [
            victim if surrogate == NONE else f"{surrogate} -> {victim}",
            self.attack_text,
            self.group.data.protocol,
            self.eps or "",
            self.side or "",
            f"seed {self.seed}",
        ]
        return " ".join(part for part in parts if part)

    @property
    def kind(self) -> tuple[str, str, str]:
        """Tasks of one kind take about as long: they differ in budget, side and seed alone."""
        return self.attack_text, "+".join(m.victim for m in self.group.models), self.group.data.protocol


def digest(value: Any) -> str:
    """Twelve hexadecimal digits over something JSON-able."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def task_from(value: Any) -> Task:
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


def expand(suite: Suite, folder: Path) -> list[Task]:
    """Every task of a suite once, in an order that keeps groups together, what is excluded left out.

    ``folder`` is what relative paths start from. Names ``all`` stand for what is known here.
    """
    made = (
        Task(group, name, tuple(settings.items()), eps, suite.norm, side, suite.quantize, seed)
        for group in groups(suite, folder)
        for name, settings in _attacks(suite, folder)
        for eps in suite.eps or [None]
        for side in suite.side or [None]
        for seed in suite.seeds
    )
    return list({task.key: task for task in made}.values())


def groups(suite: Suite, folder: Path) -> list[Group]:
    """The groups of a suite, in order."""
    found = []
    for entry in suite.datasets:
        root = None if entry.root is None else str(folder / Path(entry.root).expanduser())
        for protocol in entry.protocol_ids:
            name = anchored(entry.name, folder)
            data = Data(entry.called, name, protocol, root, entry.layout, entry.size)
            victims = [model for one in suite.victims for model in models(one, data, folder)]
            for victim in dict.fromkeys(victims):
                for surrogates in _surrogates(suite, data, folder):
                    how = (suite.precision, suite.channels_last, suite.device, suite.ignore_gates)
                    found.append(Group(data, victim, surrogates, *how))
    return found


def models(entry: VictimEntry, data: Data, folder: Path) -> list[Model]:
    """What an entry stands for on a dataset."""
    weights = entry.weights_for(data.label, data.protocol)
    path = None if weights is None else str(folder / Path(weights).expanduser())
    return [Model(anchored(text, folder), path) for text in entry.texts()]


def _surrogates(suite: Suite, data: Data, folder: Path) -> list[tuple[Model, ...]]:
    found: list[tuple[Model, ...]] = []
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


def _without(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _without(one, names) for key, one in value.items() if key not in names}
    return [_without(one, names) for one in value] if isinstance(value, list | tuple) else value


_TASK = TypeAdapter(Task)
