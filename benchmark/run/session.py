"""Many runs: find records, do the others, keep what comes of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from vbench.attacks.base import Attack, UniversalAttack
from vbench.attacks.build import build_attack, expand, label, preset_threat
from vbench.attacks.perturbation import Perturbation
from vbench.attacks.registry import PRICES
from vbench.core.arithmetic import default_arithmetic
from vbench.core.errors import BadInput, shortened
from vbench.core.files import cache_folder, check_inside, check_writable, remove_leftovers
from vbench.core.processes import from_main, is_main
from vbench.core.progress import say
from vbench.core.seeds import check_seed
from vbench.core.settings import build
from vbench.core.threat import ThreatModel
from vbench.data.base import Dataset
from vbench.records.files import KEEPABLE, missing
from vbench.records.record import Record
from vbench.records.store import RunStore
from vbench.run.bench import Bench
from vbench.run.execute import Run, fit_of
from vbench.run.failures import LOSES_A_RUN, Failures
from vbench.run.keep import Keeper
from vbench.run.prepare import Choice
from vbench.run.upfront import Upfront
from vbench.victims.base import Victim
from vbench.victims.build import AnyVictim, VictimSpec, expand_victims, victim_names

AnyAttack = TypeVar("AnyAttack", str, "str | Attack")


class Recorder:
    """Records of runs in ``store``, which are found again; without a store every run is done.

    ``force`` runs a configuration again even if its record is there, and so does a file named in ``wanted``
    ("embeddings", "images") that should lie beside the record and does not. What a universal attack learnt
    serves later runs of the same recorder that would learn the same.
    """

    def __init__(
        self,
        store: RunStore | None,
        force: bool = False,
        ignore_gates: bool = False,
        quiet: bool = False,
        wanted: Collection[str] = (),
    ) -> None:
        self._store = store
        self._force = force
        self._ignore_gates = ignore_gates
        self._quiet = quiet
        self._wanted = frozenset(wanted) if store else frozenset()
        self._learnt: dict[str, Perturbation] = {}
        self._made: dict[str, tuple[Perturbation, ...]] = {}

    def check_writable(self) -> None:
        """Raise :class:`VbenchError`, before any work, where records could not be stored."""
        if self._store and is_main():
            check_writable(self._store.root)

    def known(self, run: Run) -> Record | None:
        """The record of a run that will not be done again, None for one that will."""
        # Process 0 decides: another may look after the record of an equal run was written.
        return from_main(lambda: self._known(run))

    def _known(self, run: Run) -> Record | None:
        found = self._found(run)
        return found if found is not None and not self._lacking(found) else None

    def record(self, run: Run) -> Record:
        """The record of a run, found or made; a new one is stored with what was learnt for it."""
        known = self.known(run)
        if known is not None and self._store:
            say(f"found {self._store.path(known)} (--force runs again)", self._quiet)
            return known
        wanted, learnt = from_main(lambda: self._again(run))
        if learnt is not None:
            self._learnt[run.fit_id()] = learnt
        self.check_writable()
        if self._store and is_main():
            remove_leftovers(self._store.root)
        keeper = Keeper(wanted)
        record, applied = run.execute(self._ignore_gates, self._quiet, self._learnt, keeper)
        made = [self._learnt[fit] for fit in run.fits()]
        if run.perturbation is not None and applied is not None and applied is not run.perturbation:
            # A replay that had to be brought to another size is a file of its own.
            made = [applied]
        self._made[record.id] = tuple(made)
        if not is_main():
            return record
        if self._store:
            keeper.write(self._store.root, record)
        where = f"{keep(self._store, record, made)}: " if self._store else ""
        for warning in record.warnings:
            say(f"note: {warning}", self._quiet)
        say(f"{where}{_honesty(record)}", self._quiet)
        return record

    def _found(self, run: Run) -> Record | None:
        return self._store.find(run.config()) if self._store and not self._force else None

    def _lacking(self, record: Record) -> list[str]:
        return missing(self._store.root, record, self._wanted) if self._store and self._wanted else []

    def _again(self, run: Run) -> tuple[frozenset[str], Perturbation | None]:
        """What a run is to keep, and what it learnt before; a record that lacks files is made again."""
        found = self._found(run)
        if found is None or self._store is None:
            return self._wanted, None
        lacking = " and no ".join(self._lacking(found))
        say(f"found {self._store.path(found)}, which keeps no {lacking}: running again", self._quiet)
        # The record is replaced, and files that stayed would be of another run than their record.
        kept = set(KEEPABLE) - set(missing(self._store.root, found, KEEPABLE))
        return self._wanted | kept, self._recalled(run, found)

    def _recalled(self, run: Run, known: Record) -> Perturbation | None:
        """What a recorded run learnt, from its file, if it is there."""
        if self._store is None or run.perturbation is not None or not isinstance(run.attack, UniversalAttack):
            return None
        try:
            learnt = Perturbation.load(self._store.perturbation_path(known, run.attack.name))
        except BadInput:
            return None
        named = learnt.provenance.get("fit") == run.fit_id()
        return learnt if named and learnt.fit_log == known.fit_log else None

    def adopt(self, fit_id: str, learnt: Perturbation) -> None:
        """Let a run whose fit has this id use what was learnt already."""
        self._learnt.setdefault(fit_id, learnt.with_provenance(fit=fit_id))

    def perturbations(self, record: Record) -> tuple[Perturbation, ...]:
        """What was learnt for a record: now, or as stored with it; empty if nothing was."""
        if record.id in self._made or self._store is None:
            return self._made.get(record.id, ())
        return stored_perturbations(self._store, record)


def keep(store: RunStore, record: Record, learnt: Sequence[Perturbation]) -> Path:
    """Write what was learnt for a record, then the record; returns the record's path."""
    for one in learnt:
        attack = str(one.provenance.get("attack") or record.config["attack"]["name"])
        one.save(check_inside(store.root, store.perturbation_path(record, attack)))
    return store.write(record)


def stored_perturbations(
    store: RunStore, record: Record, tell: Callable[[str], None] = say
) -> tuple[Perturbation, ...]:
    """What was learnt for a record, from the files beside it.

    A file that was altered, or that another run's fit made, is passed over; ``tell`` gets a line about it.
    """
    found = []
    for path in store.perturbation_paths(record):
        try:
            learnt = Perturbation.load(path)
            if not _learnt_for(learnt, record):
                raise BadInput(f"{path} holds what another run than its record's learnt")
        except BadInput as error:
            tell(f"passed over: {error}")
        else:
            found.append(learnt)
    return tuple(found)


def _learnt_for(learnt: Perturbation, record: Record) -> bool:
    """Whether a fit of this record's configuration made it; records of an older kind cannot tell."""
    if record.older:
        return True
    facts, config = learnt.provenance, record.config
    if config.get("perturbation"):
        return facts.get("resized_from") == config["perturbation"]
    cards = [config["attack"], *config["attack"].get("members", ())]
    return facts.get("fit") in [fit_of(config, card) for card in cards]


def _honesty(record: Record) -> str:
    """What was done to the images and how many queries count, so that a broken attack is seen at once."""
    size, trial = record.size, record.adversarial[0]
    return (
        f"{record.label}, seed {record.config['seed']}: largest change {size['linf_levels']:.0f} levels, "
        f"{size['changed_share']:.0%} of values changed, PSNR {size['psnr_db']:.1f} dB; "
        f"{trial.queries} queries a trial, {trial.skipped} without a match"
    )


#: Passes through the victim for each image from which an attack is announced.
_MANY = 100


def announcement(attack: Any, images: int, victim: str) -> str | None:
    """One line about an attack that sends each image many times through the victim; None for others."""
    name, price = label(attack), PRICES.get(attack.name)
    queries = getattr(attack, "queries", None)
    if isinstance(queries, int):
        each, what = queries, f"{queries} queries an image"
    elif price and not price.fit and name == attack.name:
        each, what = price.gradients + price.queries, price.cost
    else:
        return None
    if each < _MANY:
        return None
    hint = f"; {attack.name}[queries=100] is quicker and weaker" if queries else ""
    return f"{name} takes {what}: {each * images:,} passes through {victim} for {images:,} images{hint}"


class Session:
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
        self._sources: dict[tuple[object, ...], Bench] = {}
        self._opened: dict[str, Bench] = {}

    @default_arithmetic()
    def execute(
        self,
        asked_victims: Sequence[str | Victim],
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
        given = (asked_victims, attack_specs, seeds, settings, protocols, perturbation, surrogates)
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
        asked_victims: Sequence[AnyVictim],
        attack_specs: Sequence[AnyAttack],
        seeds: Sequence[int],
        settings: dict[str, Any],
        protocols: Sequence[str] = (),
        perturbation: Path | None = None,
        surrogates: Sequence[str] = (),
        lose: Callable[[str, Attack, int, BaseException], None] | None = None,
    ) -> Iterator[tuple[AnyVictim, AnyAttack, Run]]:
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

        asked_victims = victim_names(asked_victims)
        chosen = expand_victims(asked_victims)
        expand_victims([*surrogates, *self._choice.surrogates])
        seeds = list(dict.fromkeys(check_seed(seed) for seed in seeds))
        replay = Perturbation.load(perturbation) if perturbation else None
        specs: list[AnyAttack] = expand(list(attack_specs))
        attacks = [build_attack(spec, settings) for spec in specs]
        threats = [self._threat_of(spec, settings) for spec in specs]
        if replay is not None:
            attacks = [_as_learnt(attacks, replay)]
        wanted: Sequence[str | None] = protocols or (None,)
        by_protocol = [
            dataclasses.replace(self._choice, protocol=protocol) for protocol in dict.fromkeys(wanted)
        ]
        upfront = Upfront(by_protocol, chosen, surrogates)
        upfront.check_attacks(list(zip(attacks, threats, strict=True)), replay)
        self.recorder.check_writable()
        data = upfront.open(cache_folder(), self._quiet)
        # It holds a copy of every victim.
        del upfront
        for choice, dataset in data:
            opened = partial(self._open, choice, dataset) if surrogates else None
            for name, victim in zip(asked_victims, chosen, strict=True):
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
        usual, asked = preset_threat(spec, settings), self._threat
        return ThreatModel(
            asked.eps if "eps" in self._stated else usual.get("eps", asked.eps),
            asked.norm,
            asked.side if "side" in self._stated else usual.get("side", asked.side),
            asked.quantize,
        )

    def _fresh(self, choice: Choice, dataset: Dataset, victim: VictimSpec | Victim) -> Bench:
        return choice.workbench(victim, dataset, cache_folder(), self._quiet)

    def _open(self, choice: Choice, dataset: Dataset, victim: VictimSpec) -> Bench:
        """The workbench of a victim that several runs share."""
        if repr(victim) not in self._opened:
            self._opened[repr(victim)] = self._fresh(choice, dataset, victim)
        return self._opened[repr(victim)]

    def _source(
        self, choice: Choice, bench: Bench, opened: Callable[[VictimSpec], Bench] | None
    ) -> Bench | None:
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
