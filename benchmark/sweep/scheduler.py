"""Which job is next. Knows tasks, groups and what depends on what; not where or how a job is done.

A worker that has a group open is given tasks of that group. A task that would learn what another is learning
waits for it, as long as there is something else to do, and then takes the perturbation over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from vbench.sweep.display import Display
from vbench.sweep.jobs import Did, Died, Do, Failed, Identity, Job, Open, Opened, Outcome, Ready
from vbench.sweep.ledger import Ledger
from vbench.sweep.pool import Pool, Slot
from vbench.sweep.tasks import Group, Task

_WAIT_SECONDS = 1.0
#: What a worker takes before anything is known of its victim: torch and the libraries, mostly.
_BASE = 1024**3


class Scheduler:
    """Hands jobs to a pool until nothing is left; ``memory`` is what a task may need, if somebody knows."""

    def __init__(
        self, pool: Pool, ledger: Ledger, display: Display, retries: int, memory: int | None = None
    ) -> None:
        self._pool, self._ledger, self._display = pool, ledger, display
        self._retries, self._memory = retries, memory
        self._attempts: Counter[Job | Task | Group] = Counter()
        self._unopened: dict[Group, list[Task]] = {}
        self._ready: dict[Group, list[Task]] = {}
        self._identities: dict[Task, Identity] = {}

    def prepare(self, jobs: Iterable[Job]) -> dict[Job, str]:
        """Do jobs that others wait for; returns those that failed, with the reason."""
        left, failed = list(jobs), {}
        while left or self._pool.busy():
            for slot in self._pool.idle():
                if left and self._pool.admits(slot, _BASE):
                    job = left.pop(0)
                    self._attempts[job] += 1
                    self._display.say(job.title)
                    self._pool.start(slot, job, _BASE)
            for slot, job, outcome in self._pool.wait(_WAIT_SECONDS):
                if isinstance(outcome, Died) and self._again(job, outcome):
                    left.append(job)
                elif not isinstance(outcome, Ready):
                    failed[job] = outcome.reason
                    self._renew(slot, outcome)
        return failed

    def work(self, tasks: Sequence[Task]) -> None:
        """Open every group and do every task."""
        for task in tasks:
            self._unopened.setdefault(task.group, []).append(task)
        while self._unopened or any(self._ready.values()) or self._pool.busy():
            self._dispatch()
            for slot, job, outcome in self._pool.wait(_WAIT_SECONDS):
                self._take(slot, job, outcome)
            self._ledger.heartbeat()

    def _dispatch(self) -> None:
        for slot in self._pool.idle():
            for job in self._choices(slot):
                need = self._need(job)
                if not self._pool.admits(slot, need):
                    return
                if self._begin(slot, job, need):
                    break
            else:
                return

    def _choices(self, slot: Slot) -> Iterator[Job]:
        """Jobs for a slot, the best first: of its group, of a group that is not open yet, of any other."""
        if slot.opened is not None:
            yield from self._of_group(slot.opened)
        yield from (Open(group, tuple(tasks)) for group, tasks in list(self._unopened.items()))
        for group in sorted(self._ready, key=lambda group: -len(self._ready[group])):
            yield from self._of_group(group)

    def _of_group(self, group: Group) -> Iterator[Do]:
        jobs = [slot.job for slot in self._pool.busy() if isinstance(slot.job, Do)]
        busy = [self._identities[job.task] for job in jobs]
        learning = {fit for identity in busy for fit in identity.fits} - self._ledger.learnt.keys()
        records = {identity.record for identity in busy}
        for task in list(self._ready.get(group, ())):
            identity = self._identities[task]
            if identity.record not in records and learning.isdisjoint(identity.fits):
                yield Do(task, self._known_fits(identity))

    def _known_fits(self, identity: Identity) -> dict[str, str | bytes]:
        known = {fit: self._ledger.learnt[fit] for fit in identity.fits if fit in self._ledger.learnt}
        return {fit: path.read_bytes() if self._pool.remote else str(path) for fit, path in known.items()}

    def _begin(self, slot: Slot, job: Job, need: int) -> bool:
        """Start a job; False where it turned out that somebody else has done it or is at it."""
        if isinstance(job, Open):
            del self._unopened[job.group]
            self._attempts[job.group] += 1
            self._pool.start(slot, job, need)
            return True
        self._ready[job.task.group].remove(job.task)
        record = self._identities[job.task].record
        if self._ledger.taken(job.task, record):
            self._settle(job.task)
            return False
        self._attempts[job.task] += 1
        self._pool.start(slot, job, need)
        self._ledger.start(job.task, record, slot.pid, self._attempts[job.task])
        return True

    def _need(self, job: Job) -> int:
        if self._memory is not None or not isinstance(job, Do):
            return self._memory or _BASE
        return self._ledger.memory.get(job.task.kind) or self._identities[job.task].memory

    def _take(self, slot: Slot, job: Job, outcome: Outcome) -> None:
        if isinstance(outcome, Died) and self._again(job, outcome):
            where = self._ready if isinstance(job, Do) else self._unopened
            tasks = [job.task] if isinstance(job, Do) else list(job.tasks)
            group = job.task.group if isinstance(job, Do) else job.group
            where[group] = tasks + where.get(group, [])
            if isinstance(job, Do):
                self._ledger.lose(job.task)
            return
        if isinstance(job, Open):
            self._opened(job, outcome)
        elif isinstance(outcome, Did):
            self._ledger.finish(job.task, outcome)
            self._display.done(job.task, outcome.seconds)
        else:
            self._fail(job.task, outcome.reason)
        self._renew(slot, outcome)

    def _opened(self, job: Open, outcome: Outcome) -> None:
        for task in job.tasks:
            found = outcome.identities[task.key] if isinstance(outcome, Opened) else outcome.reason
            if isinstance(found, str):
                self._fail(task, found)
                continue
            self._identities[task] = found
            if self._ledger.taken(task, found.record):
                self._settle(task)
            else:
                self._ready.setdefault(job.group, []).append(task)

    def _settle(self, task: Task) -> None:
        if task in self._ledger.found:
            self._display.found(task)

    def _fail(self, task: Task, reason: str) -> None:
        self._ledger.fail(task, reason)
        self._display.failed(task, reason)

    def _again(self, job: Job, outcome: Died) -> bool:
        """Whether a job whose worker died is tried once more."""
        counted = job.task if isinstance(job, Do) else job.group if isinstance(job, Open) else job
        if outcome.final or self._attempts[counted] > self._retries:
            return False
        self._display.say(f"{job.title}: {outcome.reason}; once more")
        return True

    def _renew(self, slot: Slot, outcome: Outcome) -> None:
        if isinstance(outcome, Failed) and not outcome.sound:
            self._pool.renew(slot)
