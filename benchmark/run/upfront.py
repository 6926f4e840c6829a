"""Checks of a series of runs before the first one starts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from vbench.attacks.base import Attack, UniversalAttack
from vbench.attacks.perturbation import Perturbation
from vbench.core.threat import ThreatModel
from vbench.data.base import Dataset
from vbench.run.execute import check_fit
from vbench.run.prepare import Choice, Named, Surrogate
from vbench.victims.base import Victim
from vbench.victims.build import VictimSpec, read_victim


class Upfront:
    """Checks victims, attacks and data before anything is rendered, trained, decoded or attacked.

    ``choices`` differ only in their protocol; ``surrogates`` are used one after another. Victims are built
    for inspection: with existing weights, or untrained if they will be trained.
    """

    def __init__(
        self,
        choices: Sequence[Choice],
        victims: Sequence[VictimSpec | Victim],
        surrogates: Sequence[str] = (),
    ) -> None:
        self._choices = choices
        self._choice = choices[0]
        self._victims = [Named(victim, self._choice.weights) for victim in victims]
        self._surrogates = surrogates
        for choice in choices:
            choice.check()

    def check_attacks(
        self, series: Sequence[tuple[Attack, ThreatModel]], replay: Perturbation | None = None
    ) -> None:
        """Raise :class:`BadInput` unless every attack, and ``replay``, can be used on every victim."""
        for _, victim in self._built:
            origins = self._surrogates_for(victim)
            for attack, threat in series:
                for origin in origins or [victim]:
                    check_fit(attack, threat, origin, bool(origins), replay)
                if replay is not None and isinstance(attack, UniversalAttack):
                    attack.edits(replay.resized(victim.input_size, threat), victim)

    def open(self, cache: Path, quiet: bool) -> list[tuple[Choice, Dataset]]:
        """Open the data of every protocol; :class:`BadInput` for victims that may not be used on them."""
        built = [*self._built, *self._members]
        opened = [(choice, choice.open(cache, quiet)) for choice in self._choices]
        for choice, dataset in opened:
            for named, victim in built:
                choice.check_fits(named, victim, dataset)
        return opened

    @cached_property
    def _built(self) -> list[tuple[Named, Victim]]:
        return [(named, self._choice.structure(named)) for named in self._victims]

    @cached_property
    def _members(self) -> list[tuple[Named, Victim]]:
        """The surrogates: those used one after another, or the members of one ensemble."""
        named = [Named(read_victim(name)) for name in self._surrogates] or self._choice.stand_ins()
        return [(one, self._choice.structure(one)) for one in named]

    def _surrogates_for(self, victim: Victim) -> list[Victim]:
        """The surrogates that attacks on ``victim`` are crafted on; empty if crafted on the victim itself."""
        members = [member for _, member in self._members]
        groups = [[member] for member in members] if self._surrogates else [members] if members else []
        return [Surrogate(group, victim.input_size, victim.resize_filter) for group in groups]
