"""What one run is, as data: data set, victim, attack, threat model, seed. The only list of what names a run.

The command line, :func:`vbench.evaluate`, suites and baselines are turned into these, and
:class:`vbench.run.session.Session` does them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

#: What a suite calls a run that is crafted on the victim itself.
NONE = "none"

#: Do not change what is computed: a run with another of these has the same :attr:`RunSpec.key`.
_NOT_IN_KEY = ("label", "device", "ignore_gates", "perturbation")


class Given:
    """An object of the caller (victim, attack, data set) in the place of a name; equal to itself alone."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __str__(self) -> str:
        return str(getattr(self.value, "name", type(self.value).__name__))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value


#: A text, or :class:`Given`; what is read from a file is a text.
Name = Annotated[Any, BeforeValidator(_text)]


@dataclass(frozen=True)
class ModelSpec:
    """A victim as text with its options, and its checkpoint; None: a thin one, trained on synthetic data."""

    victim: Name
    weights: str | None = None


@dataclass(frozen=True)
class DataSpec:
    """A data set under one protocol, with its folder ``root``; or "synthetic", of ``layout`` and ``size``.

    ``label`` is what a suite calls it. The protocol is "" for the data set's default. ``size``: H x W.
    """

    label: str
    dataset: Name
    protocol: str = ""
    root: str | None = None
    layout: str = "sysu"
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Setup:
    """What runs share: data, victim, surrogates (none: white box), and how the victim computes.

    ``precision`` and ``channels_last`` as of :func:`vbench.run.prepare.choose_precision`. ``ignore_gates``
    lets weights run on a split whose training identities they may have been trained on, and victims with a
    Rank-1 at chance level.
    """

    data: DataSpec
    victim: ModelSpec
    surrogates: tuple[ModelSpec, ...] = ()
    precision: str = "auto"
    channels_last: bool | None = None
    device: str = "auto"
    ignore_gates: bool = False

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """The victim and its surrogates."""
        return (self.victim, *self.surrogates)

    @property
    def surrogate(self) -> str:
        """Names of the surrogates, or "none"."""
        return "+".join(str(model.victim) for model in self.surrogates) or NONE


@dataclass(frozen=True)
class RunSpec:
    """One run. ``eps`` and ``side`` are None where they are left to the attack's preset: else 8/255, query.

    ``settings`` come on top of those in ``attack``. ``perturbation``: a file to replay instead of learning.
    """

    group: Setup
    attack: Name
    settings: tuple[tuple[str, Name], ...] = ()
    eps: Name | None = None
    norm: str = "linf"
    side: str | None = None
    quantize: bool = True
    seed: int = 0
    perturbation: str | None = None

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that name the run; the same suite gives the same ones anywhere."""
        return digest(_without(asdict(self), _NOT_IN_KEY))

    @property
    def attack_text(self) -> str:
        """The attack with its settings, as ``vbench run`` takes it."""
        inside = ",".join(f"{name}={value}" for name, value in self.settings)
        return f"{self.attack}[{inside}]" if inside else self.attack

    @property
    def columns(self) -> dict[str, str]:
        """What a table says of it."""
        return {
            "victim": str(self.group.victim.victim),
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
        victim, surrogate = str(self.group.victim.victim), self.group.surrogate
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
        """Runs of one kind take about as long: they differ in budget, side and seed alone."""
        return self.attack_text, "+".join(str(m.victim) for m in self.group.models), self.group.data.protocol


def digest(value: Any) -> str:
    """Twelve hexadecimal digits over something JSON-able."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _without(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _without(one, names) for key, one in value.items() if key not in names}
    return [_without(one, names) for one in value] if isinstance(value, list | tuple) else value
