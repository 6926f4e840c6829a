"""Descriptions of many runs: victims x attacks x protocols x seeds, from options, a baseline or a script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from vbench.core.errors import BadInput
from vbench.core.seeds import check_seed
from vbench.records.spec import DataSpec, ModelSpec, RunSpec, Setup, as_name


class Request(BaseModel):
    """Victims x attacks on a data set under a threat model; the options of ``vbench run`` by name.

    ``eps`` and ``side`` are None if they were not given: then the attack's preset decides, else 8/255 and
    query. Device, seeds and the folder of records are not part of a request.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    victims: Annotated[tuple[str, ...], Field(min_length=1)]
    attacks: Annotated[tuple[str, ...], Field(min_length=1)]
    settings: dict[str, str] = {}
    dataset: str = "synthetic"
    root: Path | None = None
    layout: str = "sysu"
    size: tuple[int, int] | None = None
    protocols: tuple[str, ...] = ()
    weights: Path | None = None
    eps: str | None = None
    norm: str = "linf"
    side: str | None = None
    quantize: bool = True
    surrogates: tuple[str, ...] = ()
    surrogate_weights: tuple[Path, ...] = ()
    ignore_gates: bool = False
    precision: str = "auto"
    channels_last: bool | None = None

    def check_threat(self) -> None:
        """Raise :class:`BadInput` for an invalid budget, norm or side."""
        from vbench.core.threat import ThreatModel

        ThreatModel(self.eps or "8/255", self.norm, self.side or "query", self.quantize)

    def expanded(self) -> Request:
        """The same with ``all`` replaced by names, so that plugins installed later add no runs."""
        from vbench.attacks.build import expand
        from vbench.victims.build import victim_names

        victims, attacks = victim_names(self.victims), expand(list(self.attacks))
        return self.model_copy(update={"victims": tuple(victims), "attacks": tuple(attacks)})

    def specs(
        self, seeds: Sequence[int] = (0,), device: str = "auto", perturbation: Path | None = None
    ) -> list[RunSpec]:
        """The specs of all runs; see :func:`run_specs`."""
        self.check_threat()
        data = DataSpec(self.dataset, self.dataset, "", _text(self.root), self.layout, self.size)
        one = RunSpec(
            Setup(
                data,
                ModelSpec("", _text(self.weights)),
                (),
                self.precision,
                self.channels_last,
                device,
                self.ignore_gates,
            ),
            "",
            tuple(self.settings.items()),
            self.eps,
            self.norm,
            self.side,
            self.quantize,
            perturbation=_text(perturbation),
        )
        members = models(self.surrogates, self.surrogate_weights)
        return run_specs(one, self.victims, self.attacks, seeds, self.protocols, [members])


def run_specs(
    one: RunSpec,
    victims: Sequence[Any],
    attacks: Sequence[Any],
    seeds: Sequence[int],
    protocols: Sequence[str] = (),
    surrogates: Sequence[tuple[ModelSpec, ...]] = ((),),
) -> list[RunSpec]:
    """Copies of ``one`` for every protocol, victim, group of surrogates, attack and seed, in this order.

    Repeats are dropped. ``victims`` and ``attacks`` are texts ("all": every known one) or objects. Raises
    :class:`BadInput` for an unknown name (with the nearest name), and for a perturbation to replay with
    several attacks.
    """
    from vbench.attacks.build import expand
    from vbench.victims.build import expand_victims, victim_names

    names = victim_names(victims)
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
    files = [_text(file) for file in weights] or [None] * len(names)
    if len(files) != len(names):
        raise BadInput(f"{len(files)} --surrogate-weights for {len(names)} surrogates; give one for each")
    return tuple(ModelSpec(name, file) for name, file in zip(names, files, strict=True))


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)
