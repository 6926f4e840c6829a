"""A series of runs: victims x attacks x seeds on one dataset, each stored as soon as it is done."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from vbench import victim_spec
from vbench.attack_spec import build_attack, expand
from vbench.attacks.base import Attack
from vbench.attacks.perturbation import Perturbation
from vbench.errors import BadInput
from vbench.folders import cache_folder
from vbench.prepare import Choice
from vbench.progress import say
from vbench.record import Record, config_id
from vbench.runner import Run
from vbench.store import RunStore
from vbench.threat import ThreatModel
from vbench.workbench import Workbench


class Series:
    """Runs under one dataset choice and threat model, with records in ``runs``.

    ``force`` runs a configuration again even if its record is there.
    """

    def __init__(
        self, choice: Choice, threat: ThreatModel, runs: Path, force: bool = False, quiet: bool = False
    ) -> None:
        self._choice = choice
        self._threat = threat
        self._store = RunStore(runs)
        self._force = force
        self._quiet = quiet
        self._learnt: dict[str, Perturbation] = {}
        self._sources: dict[tuple[object, ...], Workbench] = {}

    def execute(
        self,
        victim_names: Sequence[str],
        attack_specs: Sequence[str],
        seeds: Sequence[int],
        settings: dict[str, str],
        protocols: Sequence[str] = (),
        perturbation: Path | None = None,
    ) -> list[Record]:
        """Do every run that has no record yet; returns the records of all, in order.

        Protocols of one split share what a universal attack learnt: fitting looks at training identities
        only. Names, settings and files are checked before any work. A failing run ends the series with its
        error; what was finished before stays on disk.
        """
        chosen = victim_spec.expand(victim_names)
        replay = Perturbation.load(perturbation) if perturbation else None
        attacks = [build_attack(spec, settings) for spec in expand(list(attack_specs))]
        if replay is not None:
            attacks = [_as_learnt(attacks, replay)]
        records = []
        for protocol in protocols or [None]:
            choice = dataclasses.replace(self._choice, protocol=protocol)
            dataset = choice.open(cache_folder(), self._quiet)
            for victim in chosen:
                bench = choice.workbench(victim, dataset, cache_folder(), self._quiet)
                source = self._source(choice, bench)
                runs = [
                    Run(bench, attack, self._threat, seed, replay, source)
                    for attack in attacks
                    for seed in seeds
                ]
                for run in runs:
                    run.check()
                records += [self._one(run) for run in runs]
        return records

    def _source(self, choice: Choice, bench: Workbench) -> Workbench | None:
        """The surrogates' workbench, kept for victims of the same data and size."""
        if not choice.surrogates:
            return None
        key = (bench.dataset.protocol, bench.victim.input_size, bench.victim.resize_filter)
        if key not in self._sources:
            self._sources[key] = choice.source(bench, cache_folder(), self._quiet)
        return self._sources[key]

    def _one(self, run: Run) -> Record:
        known = self._store.find(config_id(run.config()))
        if known is not None and not self._force:
            say(f"found {self._store.path(known)} (--force runs again)", self._quiet)
            return known
        record, _ = run.execute(self._choice.ignore_gates, self._quiet, self._learnt)
        for learnt in (self._learnt[fit] for fit in run.fits()):
            file = f"{learnt.provenance['attack']}-{record.id}.safetensors"
            learnt.save(self._store.root / "perturbations" / file)
        path = self._store.write(record)
        for warning in record.warnings:
            say(f"note: {warning}", self._quiet)
        say(f"{path}: {_honesty(record)}", self._quiet)
        return record


def _as_learnt(attacks: Sequence[Attack], replay: Perturbation) -> Attack:
    if len(attacks) != 1:
        raise BadInput("--perturbation replays one attack; name just that one")
    made_by = replay.provenance.get("attack")
    if attacks[0].name != made_by:
        raise BadInput(f"the perturbation was learnt by '{made_by}', not by '{attacks[0].name}'")
    return type(attacks[0])(**replay.provenance["settings"])


def _honesty(record: Record) -> str:
    """What was done to the images and how many queries count, so that a broken attack is seen at once."""
    size, trial = record.size, record.adversarial[0]
    return (
        f"{record.label}, seed {record.config['seed']}: largest change {size['linf_levels']:.0f} levels, "
        f"{size['changed_share']:.0%} of values changed, PSNR {size['psnr_db']:.1f} dB; "
        f"{trial.queries} queries a trial, {trial.skipped} without a match"
    )
