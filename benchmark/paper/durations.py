"""How long runs will take, from how long runs of the same kind took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean

from vbench.record import Record

Kind = tuple[str, str, str]


class Durations:
    """Seconds by kind: victim with its options, name of the attack, its label with all settings.

    Records tell what learning and crafting took on the same kind of device; runs that are done while
    somebody watches, :meth:`add`, tell the whole time and are believed over records.
    """

    def __init__(self, records: Iterable[Record] = (), device: str = "") -> None:
        self._recorded: dict[Kind, list[float]] = {}
        self._watched: dict[Kind, list[float]] = {}
        for record in records:
            seconds = record.cost.get("fit_seconds", 0.0) + record.cost.get("attack_seconds", 0.0)
            if record.environment.get("device_name") == device and seconds:
                victim, attack = record.config["victim"], record.config["attack"]
                kind = kind_of(victim["name"], victim.get("options", {}), attack["name"], record.label)
                self._recorded.setdefault(kind, []).append(seconds)

    def add(self, kind: Kind, seconds: float) -> None:
        """A run of this kind took so long."""
        self._watched.setdefault(kind, []).append(seconds)

    def of(self, kind: Kind) -> float | None:
        """Seconds that a run of this kind may take; None where nothing like it is known.

        Alike are, in this order: the same victim with the same attack and settings; the same victim with
        the attack in other settings; the attack on any victim.
        """
        for parts in (3, 2):
            for known in (self._watched, self._recorded):
                alike = [kind_ for kind_ in known if kind_[:parts] == kind[:parts]]
                if alike:
                    return mean(seconds for one in alike for seconds in known[one])
        found = [
            seconds
            for known in (self._watched, self._recorded)
            for one, times in known.items()
            if one[1] == kind[1]
            for seconds in times
        ]
        return mean(found) if found else None

    def left(self, kinds: Sequence[Kind]) -> str:
        """What runs of these kinds will take together, in words."""
        if not kinds:
            return "nothing left"
        known = [seconds for seconds in map(self.of, kinds) if seconds is not None]
        if not known:
            return "time unknown until a run is done"
        unknown = len(kinds) - len(known)
        if unknown:
            return f"more than {show_seconds(sum(known))} left ({unknown} of unknown length)"
        return f"about {show_seconds(sum(known))} left"


def show_seconds(seconds: float) -> str:
    """Seconds in words.

    >>> show_seconds(3.21), show_seconds(75), show_seconds(7300)
    ('3 s', '1 min 15 s', '2 h 2 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {left} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def kind_of(victim: str, options: Mapping[str, object], attack: str, label: str) -> Kind:
    """The kind of a run."""
    return f"{victim} {sorted(options.items())}", attack, label
