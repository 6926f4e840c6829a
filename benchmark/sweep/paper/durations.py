"""How long runs will take, from how long others took."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import mean
from typing import NamedTuple

from vbench.core.text import show_left
from vbench.records.record import Record


class Kind(NamedTuple):
    """What the length of a run depends on: ``victim`` with its options, attack, and its whole setting.

    ``evaluations``: gradient evaluations of a fit, 0 for an attack that learns nothing.
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

    Records tell what learning and crafting took on the same kind of device. Runs that are done while
    somebody watches, :meth:`add`, tell the whole time and are believed over records of the same kind.
    """

    def __init__(self, records: Iterable[Record] = (), device: str = "") -> None:
        self._recorded: dict[Kind, list[float]] = {}
        self._watched: dict[Kind, list[float]] = {}
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
        """A run of this kind took so long."""
        self._watched.setdefault(kind, []).append(seconds)

    def of(self, kind: Kind) -> float | None:
        """Seconds that a run of this kind may take; None where nothing like it is known.

        Alike are, in this order: the same victim with the same attack and settings; with the attack in other
        settings; for a fit, with any fit, by their gradient evaluations; the attack on any victim.
        """
        rules: tuple[Callable[[Kind], bool], ...] = (
            lambda one: (one.victim, one.label) == (kind.victim, kind.label),
            lambda one: (one.victim, one.attack) == (kind.victim, kind.attack),
            lambda one: one.victim == kind.victim and bool(kind.evaluations and one.evaluations),
            lambda one: one.attack == kind.attack,
        )
        for alike in rules:
            for known in (self._watched, self._recorded):
                found = [
                    seconds * _scale(kind, one)
                    for one, times in known.items()
                    if alike(one)
                    for seconds in times
                ]
                if found:
                    return mean(found)
        return None

    def left(self, kinds: Sequence[Kind]) -> str:
        """What runs of these kinds will take together, in words."""
        return show_left([self.of(kind) for kind in kinds], unknown="time unknown until a run is done")


def _scale(kind: Kind, other: Kind) -> float:
    # The same settings count as they are: a fit may spend a little less than it was given.
    if kind.label == other.label or not (kind.evaluations and other.evaluations):
        return 1.0
    return kind.evaluations / other.evaluations
