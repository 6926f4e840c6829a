"""Doing runs that have no record yet, and keeping what comes of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from vbench.attacks.base import UniversalAttack
from vbench.attacks.perturbation import Perturbation
from vbench.errors import BadInput
from vbench.files import check_inside, check_writable, remove_leftovers
from vbench.kept import KEEPABLE, missing
from vbench.kept.keeper import Keeper
from vbench.parallel.exchange import told
from vbench.parallel.group import leads
from vbench.progress import say
from vbench.record import Record
from vbench.runner import Run, fit_of
from vbench.store import RunStore


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
        if self._store and leads():
            check_writable(self._store.root)

    def known(self, run: Run) -> Record | None:
        """The record of a run that will not be done again, None for one that will."""
        # Process 0 decides: another may look after the record of an equal run was written.
        return told(lambda: self._known(run))

    def _known(self, run: Run) -> Record | None:
        found = self._found(run)
        return found if found is not None and not self._lacking(found) else None

    def record(self, run: Run) -> Record:
        """The record of a run, found or made; a new one is stored with what was learnt for it."""
        known = self.known(run)
        if known is not None and self._store:
            say(f"found {self._store.path(known)} (--force runs again)", self._quiet)
            return known
        wanted, learnt = told(lambda: self._again(run))
        if learnt is not None:
            self._learnt[run.fit_id()] = learnt
        self.check_writable()
        if self._store and leads():
            remove_leftovers(self._store.root)
        keeper = Keeper(wanted)
        record, applied = run.execute(self._ignore_gates, self._quiet, self._learnt, keeper)
        made = [self._learnt[fit] for fit in run.fits()]
        if run.perturbation is not None and applied is not None and applied is not run.perturbation:
            # A replay that had to be brought to another size is a file of its own.
            made = [applied]
        self._made[record.id] = tuple(made)
        if not leads():
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
