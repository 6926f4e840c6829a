"""Doing runs that have no record yet, and keeping what comes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vbench.attacks.perturbation import Perturbation
from vbench.progress import say
from vbench.record import Record, config_id
from vbench.runner import Run
from vbench.store import RunStore


class Recorder:
    """Records of runs in ``store``, which are found again; without a store every run is done.

    ``force`` runs a configuration again even if its record is there. What a universal attack learnt serves
    later runs of the same recorder that would learn the same.
    """

    def __init__(
        self, store: RunStore | None, force: bool = False, ignore_gates: bool = False, quiet: bool = False
    ) -> None:
        self._store = store
        self._force = force
        self._ignore_gates = ignore_gates
        self._quiet = quiet
        self._learnt: dict[str, Perturbation] = {}
        self._made: dict[str, tuple[Perturbation, ...]] = {}

    def known(self, run: Run) -> Record | None:
        """The record of a run that will not be done again, None for one that will."""
        return self._store.find(config_id(run.config())) if self._store and not self._force else None

    def record(self, run: Run) -> Record:
        """The record of a run, found or made; a new one is stored with what was learnt for it."""
        known = self.known(run)
        if known is not None and self._store:
            say(f"found {self._store.path(known)} (--force runs again)", self._quiet)
            return known
        record, applied = run.execute(self._ignore_gates, self._quiet, self._learnt)
        made = [self._learnt[fit] for fit in run.fits()]
        if run.perturbation is not None and applied is not None and applied is not run.perturbation:
            # A replay that had to be brought to another size is a file of its own.
            made = [applied]
        self._made[record.id] = tuple(made)
        where = f"{keep(self._store, record, made)}: " if self._store else ""
        for warning in record.warnings:
            say(f"note: {warning}", self._quiet)
        say(f"{where}{_honesty(record)}", self._quiet)
        return record

    def perturbations(self, record: Record) -> tuple[Perturbation, ...]:
        """What was learnt for a record: now, or as stored with it; empty if nothing was."""
        if record.id in self._made or self._store is None:
            return self._made.get(record.id, ())
        return stored_perturbations(self._store, record)


def keep(store: RunStore, record: Record, learnt: Sequence[Perturbation]) -> Path:
    """Write what was learnt for a record, then the record; returns the record's path."""
    for one in learnt:
        one.save(store.perturbation_path(record, one.provenance["attack"]))
    return store.write(record)


def stored_perturbations(store: RunStore, record: Record) -> tuple[Perturbation, ...]:
    """What is stored beside a record; raises BadInput for a file that was altered."""
    return tuple(Perturbation.load(path) for path in store.perturbation_paths(record))


def _honesty(record: Record) -> str:
    """What was done to the images and how many queries count, so that a broken attack is seen at once."""
    size, trial = record.size, record.adversarial[0]
    return (
        f"{record.label}, seed {record.config['seed']}: largest change {size['linf_levels']:.0f} levels, "
        f"{size['changed_share']:.0%} of values changed, PSNR {size['psnr_db']:.1f} dB; "
        f"{trial.queries} queries a trial, {trial.skipped} without a match"
    )
