"""A series of runs: victims x attacks x seeds on one dataset, each stored as soon as it is done."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from vbench import victim_spec
from vbench.arithmetic import undisturbed
from vbench.attack_spec import build_attack, expand, preset_threat
from vbench.attacks.base import Attack
from vbench.attacks.perturbation import Perturbation
from vbench.data.base import Dataset
from vbench.errors import BadInput, shortened
from vbench.estimate import announcement
from vbench.failure import LOSES_A_RUN, Failures
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

    ``force`` runs a configuration again even if its record is there, on images decoded anew. ``keep`` names
    what runs store beside their records, "embeddings" and "images"; a run that did not is done again.
    ``stated`` are the parts of the threat model that somebody asked for; a preset that comes with a side or a
    budget decides the others.
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
        self._choice = dataclasses.replace(choice, fresh=force or choice.fresh)
        self._threat = threat
        self._quiet = quiet
        self._stated = stated
        #: Keeps the records, and what was learnt on the way.
        self.recorder = Recorder(RunStore(runs) if runs else None, force, choice.ignore_gates, quiet, keep)
        #: The runs that were lost, and why.
        self.failures = Failures()
        self._sources: dict[tuple[object, ...], Workbench] = {}
        self._opened: dict[str, Workbench] = {}

    @undisturbed()
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

        The runs are those of :meth:`each`. A run that fails is added to :attr:`failures` and the others go
        on; so are all of a victim that cannot be opened. Raises what :meth:`each` does before the first run,
        and the first error of a series that did no run at all.
        """
        records = []
        given = (victim_names, attack_specs, seeds, settings, protocols, perturbation, surrogates)
        for _, _, run in self.each(*given, lose=self._lose):
            try:
                records.append(self.recorder.record(run))
            except LOSES_A_RUN as error:
                self._lose(run.bench.victim.name, run.attack, run.seed, error)
        self.failures.refuse_if_all(records)
        return records

    def _lose(self, victim: str, attack: Attack, seed: int, error: BaseException) -> None:
        say(f"failed: {self.failures.add(victim, attack, seed, error)}", self._quiet)

    def each(
        self,
        victim_names: Sequence[str | Victim],
        attack_specs: Sequence[str | Attack],
        seeds: Sequence[int],
        settings: dict[str, Any],
        protocols: Sequence[str] = (),
        perturbation: Path | None = None,
        surrogates: Sequence[str] = (),
        lose: Callable[[str, Attack, int, BaseException], None] | None = None,
    ) -> Iterator[tuple[str | Victim, str | Attack, Run]]:
        """Every run, ready to be done, with the victim and the attack as they were asked for.

        In order: protocols, then victims, surrogates, attacks, and seeds within; repeats are left out.
        Victims and attacks are texts, or objects that are taken as they are.
        With ``surrogates`` every run is done from each of them in turn, on synthetic data; they are thin, so
        that all are kept, and each model is opened and embedded once, as victim and as surrogate. Protocols
        of one split share what a universal attack learnt: fitting looks at training identities only. What
        can be refused is refused before any work, see :class:`Upfront`. A run that cannot be made ready
        raises its error, or with ``lose`` is handed to it, unless it is bad input before the first run.
        """
        begun = False

        def lost(victim: str, attack: Attack, seed: int, error: BaseException) -> None:
            if lose is None or (isinstance(error, BadInput) and not begun):
                raise error
            lose(victim, attack, seed, error)

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
        upfront = Upfront(by_protocol, chosen, surrogates)
        upfront.check_attacks(list(zip(attacks, threats, strict=True)), replay)
        self.recorder.check_writable()
        data = upfront.open(cache_folder(), self._quiet)
        # It holds a copy of every victim.
        del upfront
        for choice, dataset in data:
            opened = partial(self._open, choice, dataset) if surrogates else None
            for name, victim in zip(victim_names, chosen, strict=True):
                choices = [dataclasses.replace(choice, surrogates=(one,)) for one in surrogates] or [choice]
                asked = list(product(choices, zip(specs, attacks, threats, strict=True), seeds))
                try:
                    bench = (opened or partial(self._fresh, choice, dataset))(victim)
                    runs = [
                        (
                            name,
                            spec,
                            Run(bench, attack, threat, seed, replay, self._source(these, bench, opened)),
                        )
                        for these, (spec, attack, threat), seed in asked
                    ]
                except LOSES_A_RUN as error:
                    for _, (_, attack, _), seed in asked:
                        lost(victim.name, attack, seed, error)
                    continue
                ready = [one for one in runs if self._ready(one[-1], lost)]
                self._announce([run for _, _, run in ready])
                for one in ready:
                    begun = True
                    yield one
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

    def _ready(self, run: Run, lost: Callable[[str, Attack, int, BaseException], None]) -> bool:
        try:
            run.check()
            run.config()
        except LOSES_A_RUN as error:
            lost(run.bench.victim.name, run.attack, run.seed, error)
            return False
        return True

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
