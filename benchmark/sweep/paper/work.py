"""Executes the runs of a plan that have no record, and notes failed ones."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from vbench.core.arithmetic import default_arithmetic
from vbench.core.plugins import reason
from vbench.core.progress import Overview, say
from vbench.core.threat import ThreatModel
from vbench.records.record import Record
from vbench.records.store import RunStore
from vbench.run.execute import Run
from vbench.run.failures import LOSES_A_RUN
from vbench.run.session import Recorder
from vbench.sweep.paper.plan import Benches, Durations, Job, Kind, Plan, without_modules
from vbench.sweep.paper.suite import Filled


@dataclass
class Work:
    """The results of a plan: records and reasons of failures by run id, filled by :meth:`do`.

    ``interrupted``: stopped with Ctrl-C; finished runs are kept.
    """

    plan: Plan
    threat: ThreatModel
    opener: Benches
    recorder: Recorder
    store: RunStore
    force: bool = False
    quiet: bool = False
    ignore_gates: bool = False
    records: dict[str, Record] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False

    @default_arithmetic()
    def do(self, name: str) -> None:
        """Execute every run without a record, one after the other, and print the expected time.

        A run that fails is noted with its reason, and the next begins. Ctrl-C ends the work; only the current
        run is lost.
        """
        self._find()
        todo = [job for job in self.plan.in_order() if job.id not in self.records]
        durations = Durations(self.store.read_all().records if todo else (), self.plan.device)
        for note in self.plan.notes:
            say(f"note: {note}", self.quiet)
        found = f", {len(self.records)} recorded already" if self.records else ""
        kinds = [self._kind(job) for job in todo]
        estimate = f"; {durations.left(kinds)}" if todo else ""
        say(f"{name}: {len(self.plan.jobs)} runs{found}{estimate}", self.quiet)
        try:
            with Overview(name, len(todo), self.quiet) as overview:
                for number, job in enumerate(todo):
                    overview.begin(job.name, durations.left(kinds[number:]))
                    self._one(job, durations)
                    overview.end()
        except KeyboardInterrupt:
            self.interrupted = True

    def filled(self) -> list[Filled]:
        """Every slot with its record or the reason of its failure."""
        return [
            Filled(slot, self.records.get(slot.id), self.failures.get(slot.id, ""))
            for slot in self.plan.slots
        ]

    def _find(self) -> None:
        for job in () if self.force else self.plan.jobs.values():
            record = self.store.get(job.id)
            if record is not None:
                self.records[job.id] = record

    def _one(self, job: Job, durations: Durations) -> None:
        started = time.monotonic()
        try:
            run = Run(
                self.opener.open(job.victim, job.protocol),
                job.attack,
                self.threat,
                job.seed,
                ignore_gates=self.ignore_gates,
            )
            self._share(job, run)
            self.records[job.id] = self.recorder.record(run)
        except LOSES_A_RUN as error:
            # Any error: the other runs must continue.
            self.failures[job.id] = reason(error)
            say(f"failed: {job.name}: {self.failures[job.id]}", self.quiet)
        else:
            durations.add(self._kind(job), time.monotonic() - started)

    def _kind(self, job: Job) -> Kind:
        """The kind of a job, for its duration: without its fit if its twin does the fit."""
        if self.plan.twin(job) is None:
            return job.kind
        return job.kind._replace(attack=f"{job.kind.attack}, learnt", label="", evaluations=0)

    def _share(self, job: Job, run: Run) -> None:
        """Let a run at pixel level reuse the fit of its twin."""
        twin = self.plan.twin(job)
        record = self.records.get(twin.id) if twin else None
        if record is not None:
            for learnt in self.recorder.perturbations(record):
                self.recorder.adopt(run.fit_id(), without_modules(learnt, job.attack))
