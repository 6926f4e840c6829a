"""The description of one run: data set, victim, attack, threat model, seed.

The command line, :func:`vbench.evaluate`, suites and baselines make these, and
:class:`vbench.run.session.Session` executes them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from vbench.core.errors import BadInput
from vbench.core.seeds import check_seed
from vbench.core.settings import parse_size, read_settings

#: The surrogate of a white-box run in a suite.
NONE = "none"

#: Fields that are not part of :attr:`RunSpec.key`, because they do not change what is computed.
_NOT_IN_KEY = ("label", "device", "batch_size", "ignore_gates", "allow_code", "perturbation")


class Given:
    """An object of the caller (victim, attack, data set) in place of a name; equal only to itself."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __str__(self) -> str:
        return str(getattr(self.value, "name", type(self.value).__name__))


def as_name(value: Any) -> Any:
    """A text as it is; an object of the caller as :class:`Given`."""
    return value if isinstance(value, str) else Given(value)


def _is_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value


#: A text, or :class:`Given`; specs read from a file only have texts.
Name = Annotated[Any, BeforeValidator(_is_text)]


@dataclass(frozen=True)
class ModelSpec:
    """A victim as text with its options, and its checkpoint; None: a thin one, trained on synthetic data."""

    victim: Name
    weights: str | None = None

    @property
    def is_trained(self) -> bool:
        """Whether the victim has weights: in a checkpoint, in itself as an object, or as a model file."""
        from vbench.victims.registry import victims

        own = isinstance(self.victim, Given) or victims.is_file(self.victim.partition("[")[0])
        return own or self.weights is not None


@dataclass(frozen=True)
class DataSpec:
    """A data set under one protocol, with its folder ``root``; or "synthetic", with ``layout`` and ``size``.

    ``label``: its name in a suite. ``protocol``: "" for the data set's default. ``size``: H x W in pixels.
    ``queries``: how many of the queries are used, evenly spread; None for all of them.
    """

    label: str
    dataset: Name = "synthetic"
    protocol: str = ""
    root: str | None = None
    layout: str = "sysu"
    size: tuple[int, int] | None = None
    queries: int | None = None


@dataclass(frozen=True)
class Setup:
    """What several runs share: data, victim, surrogates (none: white box), precision and device.

    ``precision`` and ``channels_last``: see :func:`vbench.run.prepare.choose_precision`. ``ignore_gates``
    allows weights that may have been trained on the tested identities, and victims with a Rank-1 at chance
    level, ``allow_code`` victims that are programs. ``batch_size``: images per process and batch, on which no
    result depends; None: the usual number.
    """

    data: DataSpec
    victim: ModelSpec
    surrogates: tuple[ModelSpec, ...] = ()
    precision: str = "auto"
    channels_last: bool | None = None
    device: str = "auto"
    batch_size: int | None = None
    ignore_gates: bool = False
    allow_code: bool = False

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
        # Left out where it is not given, so that the runs of earlier versions keep their key.
        more = ("queries",) if self.group.data.queries is None else ()
        return digest(_without(asdict(self), (*_NOT_IN_KEY, *more)))

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


def differing(specs: Iterable[RunSpec]) -> list[str]:
    """The names of the :attr:`RunSpec.columns` in which specs differ."""
    rows = [spec.columns for spec in specs]
    return [name for name in (rows[0] if rows else ()) if len({row[name] for row in rows}) > 1]


def digest(value: Any) -> str:
    """The first twelve hexadecimal digits of the SHA-256 of ``value`` as JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _without(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _without(one, names) for key, one in value.items() if key not in names}
    return [_without(one, names) for one in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class Option:
    """How a user gives a field of a spec.

    ``kind``: what is typed, and ``read`` makes the value of it. ``several``: the name of the field in a
    request, if that may have several values. ``shown``: the default in ``--help``, if the field's own is
    None. ``flags``: how the option is written, if not as the field. ``kept``: its type in a baseline, if not
    ``kind``; None for a field that baselines lack. ``default``: the field's, ``...`` if it has none.
    ``least``: the smallest number that may be given.
    """

    help: str
    kind: Any = str
    several: str = ""
    shown: str | None = None
    flags: str = ""
    read: Callable[[Any], Any] | None = None
    kept: Any = ...
    default: Any = None
    least: int | None = None


_SETTING = "Setting for every attack given, as in steps=20."
_DATASET = "synthetic; or sysu, regdb, llcm, a reader's name or ./file.py:Class with --root."
_PRECISION = "Precision of victims: float32, bfloat16, float16; auto: the faster one on a GPU."
_GATES = "Run even with Rank-1 at chance level or weights of another split."
_CODE = "Run a victim that is a program, such as model.pt2."
_BATCH = "Images at a time; no result depends on it."
_LAYOUTS = "--channels-last/--no-channels-last"

_TABLE = {
    "victim": Option("Victim, repeatable, or all.", several="victims"),
    "attack": Option("Attack, repeatable, or all; settings as in pgd[steps=20].", several="attacks"),
    "settings": Option(_SETTING, list[str], flags="--set", read=read_settings, kept=dict[str, str]),
    "dataset": Option(_DATASET),
    "root": Option("Folder of a real data set.", Path),
    "layout": Option("Layout of the synthetic set."),
    "size": Option(
        "Size of the synthetic set, height x width.", shown="64x32", read=parse_size, kept=tuple[int, int]
    ),
    "protocol": Option(
        "Protocol id, repeatable; see vbench data protocols.", several="protocols", shown="the layout's"
    ),
    "queries": Option("Use only this many queries, evenly spread, to try small.", int, shown="all", least=1),
    "weights": Option("Checkpoint, released or trained here.", Path),
    "eps": Option(
        "Budget in [0, 1] pixel units: of each pixel with linf, of an image's Euclidean norm with l2.",
        shown="8/255, or the attack preset's; none with l2",
    ),
    "norm": Option("linf or l2."),
    "side": Option(
        "Which images are changed: query, gallery or both.", shown="query, or the attack preset's"
    ),
    "quantize": Option("Round adversarial images to 8 bits.", bool),
    "surrogate": Option(
        "Craft on this victim instead (transfer); repeat for an ensemble.", several="surrogates"
    ),
    "surrogate_weights": Option(
        "Checkpoint of a surrogate, in the same order.", Path, several="surrogate_weights"
    ),
    "ignore_gates": Option(_GATES, bool, flags="--ignore-gates"),
    "allow_code": Option(_CODE, bool, flags="--allow-code", kept=None),
    "precision": Option(_PRECISION),
    "channels_last": Option("Memory layout of images.", bool, shown="as precision auto", flags=_LAYOUTS),
    "device": Option("auto, cpu, cuda, cuda:1 ...", kept=None),
    "batch_size": Option(_BATCH, int, shown="64; on a GPU more", kept=None, least=1),
    "seed": Option("Seed, repeatable.", int, several="seeds", shown="0", kept=None),
    "perturbation": Option("Replay this learnt perturbation instead of learning one.", Path, kept=None),
}


def _with_default(name: str, option: Option) -> Option:
    parts = (ModelSpec, DataSpec, Setup, RunSpec)
    defaults = {field.name: field.default for part in parts for field in dataclasses.fields(part)}
    default = defaults.get(name)
    return replace(option, default=... if default is dataclasses.MISSING else default)


#: How users give the fields of a :class:`RunSpec` and of its parts, by name. The options of commands and the
#: keys of baselines are made from it.
OPTIONS = {name: _with_default(name, option) for name, option in _TABLE.items()}

#: The options that are no part of a request, as they may differ each time it is run.
NOT_KEPT = tuple(name for name, option in OPTIONS.items() if option.kept is None and name != "seed")

#: The options that a request may repeat.
SEVERAL = tuple(name for name, option in OPTIONS.items() if option.several)


def _in_request(option: Option) -> Any:
    kept = option.kind if option.kept is ... else option.kept
    if option.several:
        return GenericAlias(tuple, (kept, ...)), Field(min_length=1) if option.default is ... else ()
    if option.read is read_settings:
        return kept, {}
    return (kept | None, None) if option.default is None else (kept, option.default)


if TYPE_CHECKING:
    _Fields: Any = BaseModel
else:
    _Fields = create_model(
        "_Fields",
        # Built at its first use, which many commands never come to.
        __config__=ConfigDict(extra="forbid", frozen=True, defer_build=True),
        **{
            option.several or name: _in_request(option)
            for name, option in OPTIONS.items()
            if option.kept is not None
        },
    )


class Request(_Fields):
    """Victims x attacks on a data set under a threat model; the options of ``vbench run`` by name.

    ``eps`` and ``side`` are None if they were not given: then the attack's preset decides, else 8/255 and
    query. Device, seeds and the folder of records are not part of a request.
    """

    def check_threat(self) -> None:
        """Raise :class:`BadInput` for an invalid budget, norm or side."""
        from vbench.core.threat import ThreatModel

        ThreatModel(self.eps, self.norm, self.side or "query", self.quantize)

    def expanded(self) -> Request:
        """The same with ``all`` replaced by names, so that plugins installed later add no runs."""
        from vbench.attacks.build import expand
        from vbench.victims.build import victim_names

        victims, attacks = victim_names(self.victims), expand(list(self.attacks))
        return self.model_copy(update={"victims": tuple(victims), "attacks": tuple(attacks)})

    def specs(self, seeds: Sequence[int] = (0,), **more: Any) -> list[RunSpec]:
        """The specs of all runs, see :func:`run_specs`; ``more``: options of :data:`NOT_KEPT` by name."""
        self.check_threat()
        given = dict(self) | {"surrogate": self.surrogates} | more
        return run_specs(spec_of(given), self.victims, self.attacks, seeds, self.protocols)


def request_of(given: Mapping[str, Any]) -> Request:
    """The request of the values of options, as typed; None for an option that was not given."""
    typed = {
        name: value for name, value in given.items() if value is not None and OPTIONS[name].kept is not None
    }
    return Request(**{OPTIONS[name].several or name: _read(name, value) for name, value in typed.items()})


def spec_of(given: Mapping[str, Any]) -> RunSpec:
    """A spec from values by the name of their option, typed or read; those that are None are left out.

    Without a victim or an attack these are empty, for :func:`run_specs` to fill in.
    """
    values = {name: _read(name, value) for name, value in given.items() if value is not None}

    def part(cls: type, **more: Any) -> Any:
        own = {field.name: values[field.name] for field in dataclasses.fields(cls) if field.name in values}
        return cls(**own | more)

    values = {"victim": "", "attack": "", **values}
    data = part(DataSpec, label=str(values.get("dataset", DataSpec.dataset)))
    members = models(values.pop("surrogate", ()), values.pop("surrogate_weights", ()))
    setup = part(Setup, data=data, victim=part(ModelSpec), surrogates=members)
    return part(RunSpec, group=setup, settings=tuple(dict(values.get("settings", ())).items()))


def _read(name: str, value: Any) -> Any:
    option = OPTIONS.get(name)
    read = option.read if option else None
    if read is not None and isinstance(value, str | list):
        return read(value)
    return str(value) if isinstance(value, Path) else value


def run_specs(
    one: RunSpec,
    victims: Sequence[Any],
    attacks: Sequence[Any],
    seeds: Sequence[int],
    protocols: Sequence[str] = (),
    surrogates: Sequence[tuple[ModelSpec, ...]] | None = None,
) -> list[RunSpec]:
    """Copies of ``one`` for every protocol, victim, group of surrogates, attack and seed, in this order.

    ``surrogates``: None for those of ``one``. Repeats are dropped. ``victims`` and ``attacks`` are texts
    ("all": every known one) or objects. Raises :class:`BadInput` for an unknown name (with the nearest name),
    and for a perturbation to replay with several attacks.
    """
    from vbench.attacks.build import expand
    from vbench.victims.build import expand_victims, victim_names

    names, surrogates = victim_names(victims), surrogates or [one.group.surrogates]
    expand_victims([*names, *(model.victim for group in surrogates for model in group)])
    attacks = expand(list(attacks))
    if one.perturbation is not None and len(attacks) != 1:
        raise BadInput("--perturbation replays one attack; name just that one")
    numbers = list(dict.fromkeys(check_seed(seed) for seed in seeds))
    given_victims, given_attacks = map(as_name, names), list(map(as_name, attacks))
    found = []
    for protocol, victim, group in product(dict.fromkeys(protocols or ("",)), given_victims, surrogates):
        data = replace(one.group.data, protocol=protocol)
        model = replace(one.group.victim, victim=victim)
        setup = replace(one.group, data=data, victim=model, surrogates=tuple(group))
        for attack, seed in product(given_attacks, numbers):
            found.append(replace(one, group=setup, attack=attack, seed=seed))
    return found


def models(names: Sequence[str], weights: Sequence[str | Path | None]) -> tuple[ModelSpec, ...]:
    """Surrogates with their checkpoints; raises :class:`BadInput` unless there is none, or one for each."""
    files = [None if file is None else str(file) for file in weights] or [None] * len(names)
    if len(files) != len(names):
        raise BadInput(f"{len(files)} --surrogate-weights for {len(names)} surrogates; give one for each")
    from vbench.victims.registry import victims

    known = map(victims.canonical, names)
    return tuple(ModelSpec(name, file) for name, file in zip(known, files, strict=True))
