"""The description of one run: data set, victim, attack, threat model, seed.

The command line, :func:`vbench.evaluate`, suites and baselines make these, and
:class:`vbench.run.session.Session` executes them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

#: The surrogate of a white-box run in a suite.
NONE = "none"

#: Fields that are not part of :attr:`RunSpec.key`, because they do not change what is computed.
_NOT_IN_KEY = ("label", "device", "ignore_gates", "perturbation")


class Given:
    """An object of the caller (victim, attack, data set) in place of a name; equal only to itself."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __str__(self) -> str:
        return str(getattr(self.value, "name", type(self.value).__name__))


def as_name(value: Any) -> Any:
    """A text as it is; an object of the caller as :class:`Given`."""
    return value if isinstance(value, str) else Given(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value


#: A text, or :class:`Given`; specs read from a file only have texts.
Name = Annotated[Any, BeforeValidator(_text)]


@dataclass(frozen=True)
class ModelSpec:
    """A victim as text with its options, and its checkpoint; None: a thin one, trained on synthetic data."""

    victim: Name
    weights: str | None = None


@dataclass(frozen=True)
class DataSpec:
    """A data set under one protocol, with its folder ``root``; or "synthetic", with ``layout`` and ``size``.

    ``label``: its name in a suite. ``protocol``: "" for the data set's default. ``size``: H x W in pixels.
    """

    label: str
    dataset: Name
    protocol: str = ""
    root: str | None = None
    layout: str = "sysu"
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Setup:
    """What several runs share: data, victim, surrogates (none: white box), precision and device.

    ``precision`` and ``channels_last``: see :func:`vbench.run.prepare.choose_precision`. ``ignore_gates``
    allows weights that may have been trained on the tested identities, and victims with a Rank-1 at chance
    level.
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
        """Names of the surrogates joined by "+", or "none"."""
        return "+".join(str(model.victim) for model in self.surrogates) or NONE


@dataclass(frozen=True)
class RunSpec:
    """One run. If ``eps`` or ``side`` is None, the attack's preset decides, else 8/255 and query.

    ``settings`` are added to those in ``attack``. ``perturbation``: a file to replay instead of learning.
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
        """Twelve hexadecimal digits that identify the run, the same on every machine."""
        return digest(_without(asdict(self), _NOT_IN_KEY))

    @property
    def attack_text(self) -> str:
        """The attack with its settings, as ``vbench run`` takes it."""
        inside = ",".join(f"{name}={value}" for name, value in self.settings)
        return f"{self.attack}[{inside}]" if inside else self.attack

    @property
    def columns(self) -> dict[str, str]:
        """The columns of a table that describe the run."""
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
        """One line that describes the run."""
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
        """Attack, models and protocol. Runs of one kind take about equally long."""
        return self.attack_text, "+".join(str(m.victim) for m in self.group.models), self.group.data.protocol


def digest(value: Any) -> str:
    """The first twelve hexadecimal digits of the SHA-256 of ``value`` as JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _without(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _without(one, names) for key, one in value.items() if key not in names}
    return [_without(one, names) for one in value] if isinstance(value, list | tuple) else value
