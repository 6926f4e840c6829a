"""Checks of many runs before the first one starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from vbench.attacks.base import Attack, UniversalAttack
from vbench.attacks.perturbation import Perturbation
from vbench.core.threat import ThreatModel
from vbench.data.base import Dataset
from vbench.records.spec import DataSpec, ModelSpec
from vbench.run.execute import check_fit
from vbench.run.prepare import Opener, Surrogate, victim_of
from vbench.victims.base import Victim


class Upfront:
    """Checks victims, attacks and data of setups before images are rendered or decoded, or a victim trained.

    Victims are built for these checks: with their weights, or untrained if a thin one is trained later.
    """

    def __init__(self, openers: Sequence[Opener]) -> None:
        self._openers = openers
        self._built: dict[tuple[ModelSpec, tuple[int, int] | None], Victim] = {}
        for model in dict.fromkeys(model for opener in openers for model in opener.setup.models):
            victim_of(model)
        for opener in openers:
            opener.check()

    def check_attacks(self, runs: Iterable[tuple[Opener, Attack, ThreatModel, Perturbation | None]]) -> None:
        """Raise :class:`BadInput` unless every attack and its replay, if any, can be used on its victim."""
        seen = set()
        for opener, attack, threat, replay in runs:
            setup = opener.setup
            key = (setup.victim, setup.surrogates, setup.data.size, id(attack), threat)
            if key in seen:
                continue
            seen.add(key)
            victim = self._structure(opener, setup.victim)
            members = [self._structure(opener, model) for model in setup.surrogates]
            origin = Surrogate(members, victim.input_size, victim.resize_filter) if members else victim
            check_fit(attack, threat, origin, bool(members), replay)
            if replay is not None and isinstance(attack, UniversalAttack):
                attack.edits(replay.resized(victim.input_size, threat), victim)

    def open(self, cache: Path, quiet: bool) -> dict[DataSpec, Dataset]:
        """Open the data of every setup; raises :class:`BadInput` for victims that may not be used on them."""
        built = [
            (opener, model, self._structure(opener, model))
            for opener in self._openers
            for model in opener.setup.models
        ]
        opened: dict[DataSpec, Dataset] = {}
        for opener in self._openers:
            if opener.setup.data not in opened:
                opened[opener.setup.data] = opener.open(cache, quiet)
        for opener, model, victim in built:
            opener.check_fits(model, victim, opened[opener.setup.data])
        return opened

    def _structure(self, opener: Opener, model: ModelSpec) -> Victim:
        key = (model, opener.setup.data.size)
        if key not in self._built:
            self._built[key] = opener.structure(model)
        return self._built[key]
