"""The file that a gate compares with: what to run, and how it went over repeated seeds."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError, model_validator

from vbench.data.synthetic.embedded import SyntheticSet
from vbench.errors import BadInput
from vbench.files import write_atomically
from vbench.gate.bounds import FALSE_ALARM, allowed, seeds_needed
from vbench.gate.metrics import ATTACKED, CLEAN, METRICS, STRENGTH
from vbench.gate.spread import Spread
from vbench.request import Request
from vbench.seeds import SEEDS

SCHEMA = 1
#: Problems of a broken file that are named at once.
_MOST_PROBLEMS = 12


Seed = Annotated[StrictInt, Field(ge=0, lt=SEEDS)]


class Place(BaseModel):
    """Where something was measured: ``victim`` as asked for, on the protocol of that id."""

    model_config = ConfigDict(extra="forbid")

    victim: str
    protocol: str
    attack: str = ""

    def __str__(self) -> str:
        return f"{self.victim}, {self.attack}" if self.attack else self.victim

    @property
    def key(self) -> tuple[str, str, str]:
        """What two measurements of the same thing have in common."""
        return self.victim, self.protocol, self.attack


class Measured(Place):
    """Statistics of one victim (``attack`` empty) or of one attack on it, and the configuration behind them.

    ``config``: as in a run record, less the seed. ``metrics``: by name, see :mod:`vbench.gate.metrics`.
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
    """A figure whose bound no result can exceed; ``needed`` seeds would do, None: no number would."""

    subject: Measured
    metric: str
    bound: float
    needed: int | None


class Baseline(BaseModel):
    """What to run and how it went: ``victims`` clean, ``attacks`` on them, each over ``seeds``.

    ``request`` has paths relative to the file's folder. ``drawn`` are the parameters of a synthetic set that
    takes the place of its ``root`` and is drawn again where it is missing. ``false_alarm``: chance, at most,
    that other seeds of the same code are called a move, over all comparisons.
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
            raise ValueError("seeds: the same seed twice says nothing new")
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
        """How many figures a gate compares; they share ``false_alarm``."""
        return sum(len(one.metrics) for one in self.subjects)

    @property
    def subjects(self) -> list[Measured]:
        """Victims, then attacks on them."""
        return [*self.victims, *self.attacks]

    def bound(self, spread: Spread, seeds: int) -> float:
        """Largest difference from a figure of this baseline that a gate with ``seeds`` seeds lets pass."""
        return allowed(spread, seeds, self.comparisons, self.false_alarm)

    def unguarded(self, seeds: int) -> list[Unguarded]:
        """The figures that a gate with ``seeds`` seeds could not turn red, whatever happened."""
        found = []
        for subject in self.subjects:
            for name, spread in subject.metrics.items():
                bound, reach = self.bound(spread, seeds), self._reach(subject, name)
                if bound >= reach:
                    needed = seeds_needed(spread, reach, self.comparisons, self.false_alarm)
                    found.append(Unguarded(subject=subject, metric=name, bound=bound, needed=needed))
        return found

    def without(self, figures: Sequence[Unguarded]) -> Baseline:
        """The same without these figures."""
        gone = {(one.subject.key, one.metric) for one in figures}

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
        """Share of its strength that an attack must lose before a gate with ``seeds`` seeds notices.

        Above 1: it could stop working unseen. None for an attack without any strength.
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
    """Write a baseline, whole or not at all."""
    write_atomically(path, baseline.model_dump_json(indent=1) + "\n")


def now() -> str:
    """The time, as a baseline notes it."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def problems(error: ValidationError) -> str:
    """Every malformed field with what is wrong, in one line."""
    found = [_problem(one) for one in error.errors()]
    more = len(found) - _MOST_PROBLEMS
    return "; ".join(found[:_MOST_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")


def _problem(one: Any) -> str:
    where = ".".join(str(part) for part in one["loc"])
    what = str(one["msg"]).removeprefix("Value error, ")
    return f"{where}: {what}" if where else what
