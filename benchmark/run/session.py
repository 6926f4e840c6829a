"""Many runs: find records, do the others, keep what comes of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from vbench.attacks.base import Attack, UniversalAttack
from vbench.attacks.build import build_attack, label, preset_threat
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
from vbench.records.spec import DataSpec, Given, ModelSpec, RunSpec, Setup
from vbench.records.store import RunStore
from vbench.run.bench import Bench
from vbench.run.execute import Run, fit_of
from vbench.run.failures import LOSES_A_RUN, Failures
from vbench.run.keep import Keeper
from vbench.run.prepare import Opener, unwrapped, victim_of
from vbench.run.upfront import Upfront


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
        quiet: bool = False,
        wanted: Collection[str] = (),
    ) -> None:
        self._store = store
        self._force = force
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
        record, applied = run.execute(self._quiet, self._learnt, keeper)
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

    def take(self, fit_id: str, learnt: Perturbation) -> None:
        """Use ``learnt`` for what the fit with this id would learn, if that fit made it."""
        if learnt.provenance.get("fit") == fit_id:
            self._learnt.setdefault(fit_id, learnt)

    def learnt(self, fit_id: str) -> Perturbation | None:
        """What the fit with this id learnt; None where it was not done here, nor taken from elsewhere."""
        return self._learnt.get(fit_id)

    @property
    def store(self) -> RunStore | None:
        """Where records go."""
        return self._store

    def store_in(self, runs: Path) -> None:
        """Put records elsewhere from now on; what was learnt stays."""
        self._store = RunStore(runs)

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
    """Does runs: opens each victim once, shares what was learnt, finds records, and stores them in ``runs``.

    ``force`` runs a configuration again even if its record is there, on images decoded anew. ``keep`` names
    what runs store next to their records, "embeddings" and "images"; a run that did not is done again.
    ``weights_option``: what an error says would give the weights of ``{victim}``.
    """

    def __init__(
        self,
        runs: Path | None = None,
        force: bool = False,
        quiet: bool = False,
        keep: Collection[str] = (),
        weights_option: str = "--weights",
    ) -> None:
        self._force, self._quiet, self._weights_option = force, quiet, weights_option
        #: Keeps the records, and what was learnt on the way.
        self.recorder = Recorder(RunStore(runs) if runs else None, force, quiet, keep)
        #: The runs that were lost, and why.
        self.failures = Failures()
        self._attacks: dict[tuple[object, ...], Attack] = {}
        self._replays: dict[str, Perturbation] = {}
        self._datasets: dict[DataSpec, Dataset] = {}
        self._benches: dict[Setup, Bench] = {}
        self._sources: dict[tuple[object, ...], Bench] = {}

    def run(self, spec: RunSpec) -> Record:
        """The record of one run, found or made; raises what stops it."""
        return self.recorder.record(self.ready(spec))

    @default_arithmetic()
    def run_all(self, specs: Sequence[RunSpec]) -> list[Record]:
        """Do every run that has no record yet; returns the records of all, in order.

        A run that fails is added to :attr:`failures` and the others go on; so are all of a victim that cannot
        be opened. Raises what :meth:`each` does before the first run, and the first error where no run at all
        was done.
        """
        records = []
        for _, run in self.each(specs, lose=self._lose):
            try:
                records.append(self.recorder.record(run))
            except LOSES_A_RUN as error:
                self._lose(run.bench.victim.name, run.attack, run.seed, error)
        self.failures.refuse_if_all(records)
        return records

    def each(
        self,
        specs: Sequence[RunSpec],
        lose: Callable[[str, Attack, int, BaseException], None] | None = None,
    ) -> Iterator[tuple[RunSpec, Run]]:
        """Every run, ready to be done, in the order given; those of one setup should follow each other.

        A surrogate without weights is shared with the victims of the same data, each opened and embedded
        once. Protocols of one split share what a universal attack learnt from its training identities.
        What can be refused is refused before any work, see :class:`Upfront`. A run that cannot be made ready
        raises its error, or with ``lose`` is handed to it, unless it is bad input before the first run.
        """
        begun = False

        def lost(victim: str, spec: RunSpec, error: BaseException) -> None:
            if lose is None or (isinstance(error, BadInput) and not begun):
                raise error
            lose(victim, self.attack(spec), spec.seed, error)

        self.check(specs)
        for setup, group in groupby(specs, key=lambda spec: spec.group):
            same = list(group)
            try:
                bench = self.bench(setup)
                self._source(setup, bench)
            except LOSES_A_RUN as error:
                for spec in same:
                    lost(victim_of(setup.victim).name, spec, error)
                continue
            runs: list[tuple[RunSpec, Run]] = []
            for spec in same:
                try:
                    run = self.ready(spec)
                    run.config()
                except LOSES_A_RUN as error:
                    lost(bench.victim.name, spec, error)
                else:
                    runs.append((spec, run))
            self._announce([run for _, run in runs])
            for one in runs:
                begun = True
                yield one

    def check(self, specs: Sequence[RunSpec]) -> None:
        """Refuse what can be refused of ``specs`` before any work, and open their data."""
        for spec in specs:
            check_seed(spec.seed)
        asked = [(spec.group, self.attack(spec), threat_of(spec), self._replay(spec)) for spec in specs]
        self.open(list(dict.fromkeys(spec.group for spec in specs)), asked)

    def open(
        self,
        setups: Sequence[Setup],
        asked: Sequence[tuple[Setup, Attack, ThreatModel, Perturbation | None]] = (),
    ) -> dict[DataSpec, Dataset]:
        """The data of setups; raises :class:`BadInput` where victims or attacks do not fit them."""
        openers = {setup: self._opener(setup) for setup in setups}
        upfront = Upfront(list(openers.values()))
        upfront.check_attacks(
            (openers[setup], attack, threat, replay) for setup, attack, threat, replay in asked
        )
        self.recorder.check_writable()
        self._datasets |= upfront.open(cache_folder(), self._quiet)
        return self._datasets

    def ready(self, spec: RunSpec) -> Run:
        """The run of a spec, checked; opens its victim and surrogates if they are not open."""
        bench = self.bench(spec.group)
        run = Run(
            bench,
            self.attack(spec),
            threat_of(spec),
            spec.seed,
            self._replay(spec),
            self._source(spec.group, bench),
            spec.group.ignore_gates,
        )
        run.check()
        return run

    def dataset(self, setup: Setup) -> Dataset:
        """The data set of a setup."""
        if setup.data not in self._datasets:
            self._datasets[setup.data] = self._opener(setup).open(cache_folder(), self._quiet)
        return self._datasets[setup.data]

    def bench(self, setup: Setup, dataset: Dataset | None = None) -> Bench:
        """The victim of a setup on its data, or on the ``dataset`` that is given.

        Weights fill memory: of victims with weights only the last stays open.
        """
        alone = replace(setup, surrogates=())
        if alone not in self._benches:
            self._close_others(setup)
            opened = dataset or self.dataset(setup)
            self._benches[alone] = self._opener(alone).bench(opened, cache_folder(), self._quiet)
        return self._benches[alone]

    def attack(self, spec: RunSpec) -> Attack:
        """The attack of a spec; raises :class:`BadInput` for one that is not known or not built so."""
        key = (spec.attack, repr(spec.settings), spec.perturbation)
        if key not in self._attacks:
            made = build_attack(unwrapped(spec.attack), dict(spec.settings))
            replay = self._replay(spec)
            self._attacks[key] = made if replay is None else _as_learnt(made, replay)
        return self._attacks[key]

    def _replay(self, spec: RunSpec) -> Perturbation | None:
        path = spec.perturbation
        if path is not None and path not in self._replays:
            self._replays[path] = Perturbation.load(Path(path))
        return None if path is None else self._replays[path]

    def _opener(self, setup: Setup) -> Opener:
        return Opener(setup, self._force, self._weights_option)

    def _source(self, setup: Setup, bench: Bench) -> Bench | None:
        """The surrogates' bench, kept for victims of the same size."""
        if not setup.surrogates:
            return None
        key = (setup.data, setup.surrogates, bench.victim.input_size, bench.victim.resize_filter)
        if key not in self._sources:
            if not _thin(setup.surrogates):
                self._sources.clear()
            shared = len(setup.surrogates) == 1 and _thin(setup.surrogates)
            opened = (lambda model: self.bench(replace(setup, victim=model))) if shared else None
            self._sources[key] = self._opener(setup).source(bench, cache_folder(), self._quiet, opened)
        return self._sources[key]

    def _close_others(self, setup: Setup) -> None:
        """Before a victim is opened: close what is not needed with it."""
        kept = bool(setup.surrogates) and _thin(setup.surrogates)
        self._benches = {
            other: bench
            for other, bench in self._benches.items()
            if kept and other.data == setup.data and _thin([other.victim])
        }
        self._sources = {key: bench for key, bench in self._sources.items() if key[0] == setup.data}

    def _lose(self, victim: str, attack: Attack, seed: int, error: BaseException) -> None:
        say(f"failed: {self.failures.add(victim, attack, seed, error)}", self._quiet)

    def _announce(self, runs: Sequence[Run]) -> None:
        """Say what will take long, once an attack, unless it is recorded already."""
        lines = [
            announcement(run.attack, run.images, (run.source or run.bench).victim.name)
            for run in runs
            if self.recorder.known(run) is None
        ]
        for line in dict.fromkeys(filter(None, lines)):
            say(f"note: {line}", self._quiet)


def threat_of(spec: RunSpec) -> ThreatModel:
    """The threat model of a spec: what it says itself, then its attack's preset, then 8/255 and query."""
    usual = preset_threat(unwrapped(spec.attack), dict(spec.settings))
    eps = usual.get("eps", "8/255") if spec.eps is None else spec.eps
    side = usual.get("side", "query") if spec.side is None else spec.side
    return ThreatModel(eps, spec.norm, side, spec.quantize)


def _thin(models: Sequence[ModelSpec]) -> bool:
    return all(model.weights is None and not isinstance(model.victim, Given) for model in models)


def _as_learnt(attack: Attack, replay: Perturbation) -> Attack:
    made_by = replay.provenance.get("attack")
    if attack.name != made_by:
        named = shortened(str(made_by))
        raise BadInput(f"the perturbation was learnt by '{named}', not by '{attack.name}'")
    settings = replay.provenance.get("settings")
    if not isinstance(settings, dict):
        raise BadInput("the perturbation does not say with which settings it was learnt")
    return build(type(attack), attack.name, settings)
