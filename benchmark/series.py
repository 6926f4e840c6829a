"""A series of runs: victims x attacks x seeds on one dataset, each stored as soon as it is done."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vbench import victim_spec
from vbench.attack_spec import build_attack, expand, preset_threat
from vbench.attacks.base import Attack
from vbench.attacks.perturbation import Perturbation
from vbench.data.base import Dataset
from vbench.errors import BadInput, shortened
from vbench.estimate import announcement
from vbench.folders import cache_folder
from vbench.parameters import build
from vbench.prepare import Choice
from vbench.progress import say
from vbench.record import Record
from vbench.recorder import Recorder
from vbench.runner import Run
from vbench.seeds import check_seed
from vbench.store import RunStore
from vbench.threat import ThreatModel
from vbench.upfront import Upfront
from vbench.victim_spec import VictimSpec
from vbench.victims.base import Victim
from vbench.workbench import Workbench


class Series:
    """Runs under one dataset choice and threat model, with records in ``runs`` (None: kept nowhere).

    ``force`` runs a configuration again even if its record is there. ``keep`` names what runs store beside
    their records, "embeddings" and "images"; a run that did not is done again. ``stated`` are the parts of
    the threat model that somebody asked for; a preset that comes with a side or a budget decides the others.
    """

    def __init__(
        self,
        choice: Choice,
        threat: ThreatModel,
        runs: Path | None,
        force: bool = False,
        quiet: bool = False,
        stated: Collection[str] = ("eps", "side"),
        keep: Collection[str] = (),
    ) -> None:
        self._choice = choice
        self._threat = threat
        self._quiet = quiet
        self._stated = stated
        #: Keeps the records, and what was learnt on the way.
        self.recorder = Recorder(RunStore(runs) if runs else None, force, choice.ignore_gates, quiet, keep)
        self._sources: dict[tuple[object, ...], Workbench] = {}
        self._opened: dict[str, Workbench] = {}

    def execute(
        self,
        victim_names: Sequence[str | Victim],
        attack_specs: Sequence[str | Attack],
        seeds: Sequence[int],
        settings: dict[str, Any],
        protocols: Sequence[str] = (),
        perturbation: Path | None = None,
        surrogates: Sequence[str] = (),
    ) -> list[Record]:
        """Do every run that has no record yet; returns the records of all, in order.

        The runs are those of :meth:`each`. A failing run ends the series with its error; what was finished
        before stays on disk.
        """
        runs = self.each(victim_names, attack_specs, seeds, settings, protocols, perturbation, surrogates)
        return [self.recorder.record(run) for _, _, run in runs]

    def each(
        self,
        victim_names: Sequence[str | Victim],
        attack_specs: Sequence[str | Attack],
        seeds: Sequence[int],
        settings: dict[str, Any],
        protocols: Sequence[str] = (),
        perturbation: Path | None = None,
        surrogates: Sequence[str] = (),
    ) -> Iterator[tuple[str | Victim, str | Attack, Run]]:
        """Every run, ready to be done, with the victim and the attack as they were asked for.

        In order: protocols, then victims, surrogates, attacks, and seeds within; repeats are left out.
        Victims and attacks are texts, or objects that are taken as they are.
        With ``surrogates`` every run is done from each of them in turn, on synthetic data; they are thin, so
        that all are kept, and each model is opened and embedded once, as victim and as surrogate. Protocols
        of one split share what a universal attack learnt: fitting looks at training identities only. What
        can be refused is refused before any work, see :class:`Upfront`.
        """
        victim_names = victim_spec.names(victim_names)
        chosen = victim_spec.expand(victim_names)
        victim_spec.expand([*surrogates, *self._choice.surrogates])
        seeds = list(dict.fromkeys(check_seed(seed) for seed in seeds))
        replay = Perturbation.load(perturbation) if perturbation else None
        specs = expand(list(attack_specs))
        attacks = [build_attack(spec, settings) for spec in specs]
        threats = [self._threat_of(spec, settings) for spec in specs]
        if replay is not None:
            attacks = [_as_learnt(attacks, replay)]
        by_protocol = [
            dataclasses.replace(self._choice, protocol=protocol)
            for protocol in dict.fromkeys(protocols or [None])
        ]
        series = list(zip(attacks, threats, strict=True))
        upfront = Upfront(by_protocol, chosen, surrogates)
        upfront.check_attacks(series, replay)
        self.recorder.check_writable()
        for choice, dataset in upfront.open(cache_folder(), self._quiet):
            opened = partial(self._open, choice, dataset) if surrogates else None
            for name, victim in zip(victim_names, chosen, strict=True):
                bench = (opened or partial(self._fresh, choice, dataset))(victim)
                choices = [dataclasses.replace(choice, surrogates=(one,)) for one in surrogates] or [choice]
                runs = [
                    (name, spec, Run(bench, attack, threat, seed, replay, self._source(these, bench, opened)))
                    for these in choices
                    for spec, (attack, threat) in zip(specs, series, strict=True)
                    for seed in seeds
                ]
                self._announce([run for _, _, run in runs])
                yield from runs
            self._opened.clear()
            self._sources.clear()

    def _threat_of(self, spec: str | Attack, settings: dict[str, Any]) -> ThreatModel:
        usual = preset_threat(spec, settings)
        return dataclasses.replace(
            self._threat, **{name: usual[name] for name in usual if name not in self._stated}
        )

    def _fresh(self, choice: Choice, dataset: Dataset, victim: VictimSpec | Victim) -> Workbench:
        return choice.workbench(victim, dataset, cache_folder(), self._quiet)

    def _open(self, choice: Choice, dataset: Dataset, victim: VictimSpec) -> Workbench:
        """The workbench of a victim that several runs share."""
        if repr(victim) not in self._opened:
            self._opened[repr(victim)] = self._fresh(choice, dataset, victim)
        return self._opened[repr(victim)]

    def _source(
        self, choice: Choice, bench: Workbench, opened: Callable[[VictimSpec], Workbench] | None
    ) -> Workbench | None:
        """The surrogates' workbench, kept for victims of the same size."""
        if not choice.surrogates:
            return None
        key = (choice.surrogates, bench.victim.input_size, bench.victim.resize_filter)
        if key not in self._sources:
            self._sources[key] = choice.source(bench, cache_folder(), self._quiet, opened)
        return self._sources[key]

    def _announce(self, runs: Sequence[Run]) -> None:
        """Say what will take long, once an attack, unless it is recorded already."""
        lines = [
            announcement(run.attack, run.images, (run.source or run.bench).victim.name)
            for run in runs
            if self.recorder.known(run) is None
        ]
        for line in dict.fromkeys(filter(None, lines)):
            say(f"note: {line}", self._quiet)


def _as_learnt(attacks: Sequence[Attack], replay: Perturbation) -> Attack:
    if len(attacks) != 1:
        raise BadInput("--perturbation replays one attack; name just that one")
    made_by = replay.provenance.get("attack")
    if attacks[0].name != made_by:
        named = shortened(str(made_by))
        raise BadInput(f"the perturbation was learnt by '{named}', not by '{attacks[0].name}'")
    settings = replay.provenance.get("settings")
    if not isinstance(settings, dict):
        raise BadInput("the perturbation does not say with which settings it was learnt")
    return build(type(attacks[0]), attacks[0].name, settings)
