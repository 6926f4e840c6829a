"""Many runs: find recorded ones, execute the others, store their records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from vbench.attacks.base import Attack, UniversalAttack
from vbench.attacks.build import build_attack, label, preset_threat
from vbench.attacks.perturbation import Perturbation, stored_fit
from vbench.attacks.registry import PRICES
from vbench.core.arithmetic import default_arithmetic
from vbench.core.errors import BadInput, VbenchError, shortened
from vbench.core.files import cache_folder, check_inside, check_writable, remove_leftovers
from vbench.core.processes import from_main, is_main
from vbench.core.progress import say
from vbench.core.seeds import check_seed
from vbench.core.settings import build
from vbench.core.text import count_of
from vbench.core.threat import ThreatModel
from vbench.data.base import Dataset
from vbench.records.files import KEEPABLE, missing
from vbench.records.record import Record
from vbench.records.spec import DataSpec, ModelSpec, RunSpec, Setup
from vbench.records.store import RunStore
from vbench.run.bench import Bench
from vbench.run.execute import Run, check_fit, fit_of
from vbench.run.failures import LOSES_A_RUN, Failures
from vbench.run.keep import Keeper
from vbench.run.prepare import Opener, Surrogate, unwrapped, victim_of
from vbench.run.summary import clean_gate
from vbench.victims.base import Victim


class Recorder:
    """Finds the records of runs in ``store``, or executes the runs; without a store every run is executed.

    A run is repeated if ``force`` is set, or if a file named in ``wanted`` ("embeddings", "images") is
    missing next to its record. Later runs reuse what an equal fit of a universal attack learnt.
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
        """Raise what :func:`check_writable` raises, before any work, if records cannot be stored."""
        if self._store and is_main():
            check_writable(self._store.root)

    def known(self, run: Run) -> Record | None:
        """The record of a run that need not be executed; None for one that must be."""
        # The main process decides: others may look after the record of an equal run was written.
        return from_main(lambda: self._known(run))

    def _known(self, run: Run) -> Record | None:
        found = self._found(run)
        return found if found is not None and not self._missing_files(found) else None

    def record(self, run: Run) -> Record:
        """The record of a run, found or new; a new one is stored with the perturbations learnt for it.

        Raises what :meth:`Run.execute` raises, also for a found one that it would refuse.
        """
        known = self.known(run)
        if known is not None and self._store:
            if not run.ignore_gates:
                # It may have been made with --ignore-gates.
                clean_gate(run.bench, known.clean)
            say(f"found {self._store.path(known)} (--force runs again)", self._quiet)
            return known
        wanted, learnt = from_main(lambda: self._to_execute(run))
        if learnt is not None:
            self._learnt[run.fit_id()] = learnt
        try:
            self.check_writable()
        except BadInput as error:
            # The folder could be written to when work began.
            raise VbenchError(str(error)) from error
        if self._store and is_main():
            remove_leftovers(self._store.root)
        keeper = Keeper(wanted)
        record, applied = run.execute(self._quiet, self._learnt, keeper, self._found)
        made = [self._learnt[fit] for fit in run.fits()]
        if run.perturbation is not None and applied is not None and applied is not run.perturbation:
            # A resized replay is stored as a new file.
            made = [applied]
        self._made[record.id] = tuple(made)
        if not is_main():
            return record
        if self._store:
            keeper.write(self._store.root, record)
        where = f"{keep(self._store, record, made, 'weights' in wanted)}: " if self._store else ""
        for warning in record.warnings:
            say(f"note: {warning}", self._quiet)
        say(f"{where}{_sizes_and_queries(record)}", self._quiet)
        return record

    def _found(self, run: Run) -> Record | None:
        return self._store.find(run.config()) if self._store and not self._force else None

    def _missing_files(self, record: Record) -> list[str]:
        return missing(self._store.root, record, self._wanted) if self._store and self._wanted else []

    def _to_execute(self, run: Run) -> tuple[frozenset[str], Perturbation | None]:
        """The kinds of files that a run must store, and the perturbation that it learnt before, if any."""
        found = self._found(run)
        if found is None or self._store is None:
            return self._wanted, None
        lacking = " and no ".join(self._missing_files(found))
        say(f"found {self._store.path(found)}, which keeps no {lacking}: running again", self._quiet)
        # The record is replaced: files that are there must be replaced too, or they would not match it.
        kept = set(KEEPABLE) - set(missing(self._store.root, found, KEEPABLE))
        return self._wanted | kept, self._learnt_before(run, found)

    def _learnt_before(self, run: Run, known: Record) -> Perturbation | None:
        """The perturbation that a recorded run learnt, from its file; None if it cannot be used."""
        if self._store is None or run.perturbation is not None or not isinstance(run.attack, UniversalAttack):
            return None
        try:
            learnt = Perturbation.load(self._store.perturbation_path(known, run.attack.name))
        except BadInput:
            return None
        same_fit = learnt.provenance.get("fit") == run.fit_id()
        return learnt if same_fit and learnt.fit_log == known.fit_log else None

    def reuse_stored(self, run: Run) -> None:
        """Let a run reuse what an equal fit of another process learnt, from the files next to the records."""
        wanted = [fit for fit in run.fits() if fit not in self._learnt]
        folder = self._store.root / "perturbations" if self._store and wanted else None
        for path in sorted(folder.glob("*.safetensors")) if folder else ():
            # A damaged file is no reason to fail: the run learns the perturbation itself.
            with suppress(BadInput):
                fit = stored_fit(path)
                if fit in wanted:
                    self.take(fit, Perturbation.load(path))

    def take(self, fit_id: str, learnt: Perturbation) -> None:
        """Let runs whose fit has this id use ``learnt``, if such a fit made it."""
        if learnt.provenance.get("fit") == fit_id:
            self._learnt.setdefault(fit_id, learnt)

    @property
    def store(self) -> RunStore | None:
        """The store of the records, if there is one."""
        return self._store

    def store_in(self, runs: Path) -> None:
        """Store records in another folder from now on; learnt perturbations stay available."""
        self._store = RunStore(runs)

    def perturbations(self, record: Record) -> tuple[Perturbation, ...]:
        """The perturbations learnt for a record, by this recorder or from files; empty if there are none."""
        if record.id in self._made or self._store is None:
            return self._made.get(record.id, ())
        return stored_perturbations(self._store, record)


def keep(store: RunStore, record: Record, learnt: Sequence[Perturbation], weights: bool = False) -> Path:
    """Write the perturbations learnt for a record, then the record; returns the record's path.

    Those that hold the weights of a victim are as large as it is, and are written only with ``weights``.
    """
    for one in learnt:
        if one.weights and not weights:
            continue
        attack = str(one.provenance.get("attack") or record.config["attack"]["name"])
        one.save(check_inside(store.root, store.perturbation_path(record, attack)))
    return store.write(record)


def stored_perturbations(
    store: RunStore, record: Record, warn: Callable[[str], None] = say
) -> tuple[Perturbation, ...]:
    """The perturbations learnt for a record, from the files next to it.

    Files that were altered or made by another run's fit are skipped; ``warn`` is called with a line for each.
    """
    found = []
    for path in store.perturbation_paths(record):
        try:
            learnt = Perturbation.load(path)
            if not _learnt_for(learnt, record):
                raise BadInput(f"{path} was learnt by another run than its record's")
        except BadInput as error:
            warn(f"passed over: {error}")
        else:
            found.append(learnt)
    return tuple(found)


def _learnt_for(learnt: Perturbation, record: Record) -> bool:
    """Whether a fit of this record's configuration made ``learnt``; True for records of an older format."""
    if record.older:
        return True
    facts, config = learnt.provenance, record.config
    if config.get("perturbation"):
        return facts.get("resized_from") == config["perturbation"]
    cards = [config["attack"], *config["attack"].get("members", ())]
    return facts.get("fit") in [fit_of(config, card) for card in cards]


def _sizes_and_queries(record: Record) -> str:
    """One line: change of the images and number of queries, so that a broken attack is seen at once."""
    size, trial = record.size, record.adversarial[0]
    return (
        f"{record.label}, seed {record.config['seed']}: largest change {size['linf_levels']:.0f} levels, "
        f"{size['changed_share']:.0%} of values changed, PSNR {size['psnr_db']:.1f} dB; "
        f"{trial.queries} queries a trial, {trial.skipped} without a match"
    )


#: An attack with at least this many passes through the victim per image is announced.
_MANY = 100


def announcement(attack: Any, images: int, victim: str) -> str | None:
    """One line about an attack that needs many passes through the victim per image; None for others."""
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
    """Executes runs: opens each victim once, reuses learnt perturbations, finds and stores records.

    ``force`` repeats recorded runs, and decodes the images again. ``keep``: files to store next to the
    records, "embeddings" and "images"; a recorded run without them is repeated. ``weights_option``: the
    option that gives the weights of ``{victim}``, for error messages.
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
        #: Stores the records and learnt perturbations.
        self.recorder = Recorder(RunStore(runs) if runs else None, force, quiet, keep)
        #: The failed runs, with reasons.
        self.failures = Failures()
        self._attacks: dict[tuple[object, ...], Attack] = {}
        self._replays: dict[str, Perturbation] = {}
        self._datasets: dict[DataSpec, Dataset] = {}
        self._benches: dict[Setup, Bench] = {}
        self._sources: dict[tuple[object, ...], Bench] = {}

    def run(self, spec: RunSpec) -> Record:
        """The record of one run, found or new; raises its error if it fails."""
        return self.recorder.record(self.ready(spec))

    @default_arithmetic()
    def run_all(self, specs: Sequence[RunSpec]) -> list[Record]:
        """Execute every run without a record; returns the records of all, in order.

        A run that fails is added to :attr:`failures`, as are all runs of a victim that cannot be opened; the
        others continue. Raises what :meth:`each` raises before the first run, and the first error if no run
        succeeds.
        """
        records = []
        for spec, run in self.each(specs, on_failure=self._failed):
            try:
                records.append(self.recorder.record(run))
            except LOSES_A_RUN as error:
                self._failed(spec, run.bench.victim.name, error)
        self.failures.refuse_if_all(records)
        return records

    def each(
        self,
        specs: Sequence[RunSpec],
        on_failure: Callable[[RunSpec, str, BaseException], None] | None = None,
    ) -> Iterator[tuple[RunSpec, Run]]:
        """Every run, ready to execute, in the order of ``specs``; keep specs of one setup together.

        A surrogate without weights is shared with the victims of the same data: each is opened and embedded
        once. Protocols of one split share what a universal attack learnt from its training identities.
        Invalid specs are refused before any work, see :meth:`open`. If a run cannot be made ready,
        ``on_failure`` is called with spec, victim and error; without it, and for bad input before the first
        run, the error is raised.
        """
        begun = False

        def failed(spec: RunSpec, victim: str, error: BaseException) -> None:
            if on_failure is None or (isinstance(error, BadInput) and not begun):
                raise error
            on_failure(spec, victim, error)

        self.check(specs)
        self._say_cost(specs)
        for setup, group in groupby(specs, key=lambda spec: spec.group):
            same = list(group)
            try:
                bench = self.bench(setup)
                self._source(setup, bench)
            except LOSES_A_RUN as error:
                for spec in same:
                    failed(spec, victim_of(setup.victim).name, error)
                continue
            runs: list[tuple[RunSpec, Run]] = []
            for spec in same:
                try:
                    run = self.ready(spec)
                    run.config()
                except LOSES_A_RUN as error:
                    failed(spec, bench.victim.name, error)
                else:
                    runs.append((spec, run))
            self._announce([run for _, run in runs])
            for one in runs:
                begun = True
                yield one

    def check(self, specs: Sequence[RunSpec]) -> None:
        """Raise :class:`BadInput` for specs that cannot run, before any work, and open their data."""
        for spec in specs:
            check_seed(spec.seed)
        attacks = [(spec.group, self.attack(spec), threat_of(spec), self._replay(spec)) for spec in specs]
        self.open(list(dict.fromkeys(spec.group for spec in specs)), attacks)

    def open(
        self,
        setups: Sequence[Setup],
        attacks: Sequence[tuple[Setup, Attack, ThreatModel, Perturbation | None]] = (),
    ) -> dict[DataSpec, Dataset]:
        """Open the data of setups; raises :class:`BadInput` if victims or attacks do not fit them.

        What can be refused without the data is, before images are rendered or decoded, or a victim trained.
        """
        openers = {setup: self._opener(setup) for setup in setups}
        built: dict[tuple[ModelSpec, tuple[int, int] | None], Victim] = {}

        def structure(setup: Setup, model: ModelSpec) -> Victim:
            """The victim with its weights, or untrained if a thin one is trained later."""
            key = (model, setup.data.size)
            if key not in built:
                built[key] = openers[setup].structure(model)
            return built[key]

        for model in dict.fromkeys(model for setup in setups for model in setup.models):
            victim_of(model)
        for opener in openers.values():
            opener.check()
        seen = set()
        for setup, attack, threat, replay in attacks:
            different = (setup.victim, setup.surrogates, setup.data.size, id(attack), threat)
            if different in seen:
                continue
            seen.add(different)
            victim = structure(setup, setup.victim)
            members = [structure(setup, model) for model in setup.surrogates]
            origin = Surrogate(members, victim.input_size, victim.resize_filter) if members else victim
            check_fit(attack, threat, origin, bool(members), replay)
            if replay is not None and isinstance(attack, UniversalAttack):
                attack.edits(replay.resized(victim.input_size, threat), victim)
        self.recorder.check_writable()
        models = [(setup, model, structure(setup, model)) for setup in setups for model in setup.models]
        for setup in setups:
            self.dataset(setup)
        for setup, model, victim in models:
            openers[setup].check_fits(model, victim, self._datasets[setup.data])
        return self._datasets

    def structure(self, setup: Setup) -> Victim:
        """The first surrogate of a setup, or its victim: untrained if a thin one is trained later."""
        return self._opener(setup).structure((*setup.surrogates, setup.victim)[0])

    def ready(self, spec: RunSpec) -> Run:
        """The checked run of a spec; opens its victim and surrogates if they are not open."""
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
        """The victim of a setup on its data, or on ``dataset`` if given.

        To save memory, only the last victim with weights stays open.
        """
        alone, opened = replace(setup, surrogates=()), dataset or self.dataset(setup)
        known = self._benches.get(alone)
        if known is None or known.dataset is not opened:
            self._close_others(setup)
            self._benches[alone] = known = self._opener(alone).bench(opened, cache_folder(), self._quiet)
        return known

    def attack(self, spec: RunSpec) -> Attack:
        """The attack of a spec; raises :class:`BadInput` for an unknown attack or unfit settings."""
        key = (spec.attack, repr(spec.settings), spec.perturbation)
        if key not in self._attacks:
            built = build_attack(unwrapped(spec.attack), dict(spec.settings))
            replay = self._replay(spec)
            self._attacks[key] = built if replay is None else _with_settings_of(replay, built)
        return self._attacks[key]

    def _replay(self, spec: RunSpec) -> Perturbation | None:
        path = spec.perturbation
        if path is not None and path not in self._replays:
            self._replays[path] = Perturbation.load(Path(path))
        return None if path is None else self._replays[path]

    def _opener(self, setup: Setup) -> Opener:
        return Opener(setup, self._force, self._weights_option)

    def _source(self, setup: Setup, bench: Bench) -> Bench | None:
        """The surrogates' bench, reused for victims of the same input size."""
        if not setup.surrogates:
            return None
        key = (setup.data, setup.surrogates, bench.victim.input_size, bench.victim.resize_filter)
        if key not in self._sources:
            if not _thin(setup.surrogates):
                self._sources.clear()
            # A victim with weights is the only one that stays open; opening another would close it.
            shared = len(setup.surrogates) == 1 and _thin(setup.models)
            opened = (lambda model: self.bench(replace(setup, victim=model))) if shared else None
            self._sources[key] = self._opener(setup).source(bench, cache_folder(), self._quiet, opened)
        return self._sources[key]

    def _close_others(self, setup: Setup) -> None:
        """Close the benches that are not needed together with the victim of ``setup``."""
        keep_thin = bool(setup.surrogates) and _thin(setup.surrogates)
        self._benches = {
            other: bench
            for other, bench in self._benches.items()
            if keep_thin and other.data == setup.data and _thin([other.victim])
        }
        self._sources = {key: bench for key, bench in self._sources.items() if key[0] == setup.data}

    def _failed(self, spec: RunSpec, victim: str, error: BaseException) -> None:
        failure = self.failures.add(victim, self.attack(spec), spec.seed, error)
        say(f"failed: {failure}", self._quiet)

    def _say_cost(self, specs: Sequence[RunSpec]) -> None:
        """Print what runs will cost, in one line, before the first of them; recorded ones are left out.

        Whether a run is recorded is known once its victim is open: so only runs of one victim are looked up,
        and only where there are records.
        """
        from vbench.run.plan import plan, summary

        if not specs or self._quiet:
            return
        store, one = self.recorder.store, len({spec.group for spec in specs}) == 1
        look = (
            one
            and not self._force
            and from_main(lambda: store is not None and any(store.root.glob("*.json")))
        )
        # An attack or a victim that fails here is a lost run later.
        with suppress(*LOSES_A_RUN):
            todo = [spec for spec in specs if not (look and self.recorder.known(self.ready(spec)))]
            done = f"; {count_of(len(specs) - len(todo), 'run')} recorded already"
            if todo:
                say(summary(plan(self, todo)) + (done if len(todo) < len(specs) else ""))

    def _announce(self, runs: Sequence[Run]) -> None:
        """Print which attacks will take long, once each, except for recorded runs."""
        lines = [
            announcement(run.attack, run.images, (run.source or run.bench).victim.name)
            for run in runs
            if self.recorder.known(run) is None
        ]
        for line in dict.fromkeys(filter(None, lines)):
            say(f"note: {line}", self._quiet)


def threat_of(spec: RunSpec) -> ThreatModel:
    """The threat model of a spec; what it leaves out comes from its attack's preset, else 8/255 and query.

    Presets have L_inf budgets, which no other norm takes.
    """
    preset = preset_threat(unwrapped(spec.attack), dict(spec.settings))
    eps = preset.get("eps") if spec.eps is None and spec.norm == "linf" else spec.eps
    side = preset.get("side", "query") if spec.side is None else spec.side
    return ThreatModel(eps, spec.norm, side, spec.quantize)


def _thin(models: Sequence[ModelSpec]) -> bool:
    return not any(model.is_trained for model in models)


def _with_settings_of(replay: Perturbation, attack: Attack) -> Attack:
    """The attack with the settings that the perturbation was learnt with."""
    made_by = replay.provenance.get("attack")
    if attack.name != made_by:
        named = shortened(str(made_by))
        raise BadInput(f"the perturbation was learnt by '{named}', not by '{attack.name}'")
    settings = replay.provenance.get("settings")
    if not isinstance(settings, dict):
        raise BadInput("the perturbation does not say with which settings it was learnt")
    return build(type(attack), attack.name, settings)
