"""A pool that does jobs as a script says, in this process, and tasks that mean nothing."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

from vbench.records.record import IDENTITY, Record, TrialMetrics, config_id
from vbench.records.spec import DataSpec, ModelSpec, RunSpec, Setup
from vbench.records.store import RunStore
from vbench.sweep.engine import Done, Job, Outcome

DATA = DataSpec("real", "sysu", "sysu/all/single/ir2vis/seed10", "/data")


def task(victim="agw", attack="pgd", seed=0, side="query", protocol=DATA.protocol) -> RunSpec:
    """A task that nobody will really do."""
    data = DataSpec("real", "sysu", protocol, "/data")
    return RunSpec(Setup(data, ModelSpec(victim)), attack, (), "8/255", "linf", side, True, seed)


def record(name: str) -> Record:
    """The smallest record there can be, of a configuration with this name."""
    metrics = TrialMetrics(
        trial="0", r1=1, r5=1, r10=1, r20=1, map=1, minp=1, queries=1, skipped=0, tied_share=0
    )
    config = {
        "identity": IDENTITY,
        "called": name,
        "victim": {"name": "agw", "weights": "w"},
        "dataset": {"name": "sysu", "fingerprint": "f"},
        "attack": {"name": "pgd"},
        "threat": {"norm": "linf", "eps": "8/255", "side": "query", "quantize": True},
        "seed": 0,
    }
    cost = {"fit_seconds": 2.0, "attack_seconds": 3.0}
    both = {"clean": [metrics], "adversarial": [metrics]}
    return Record(id=config_id(config), config=config, protocol="p", synthetic=True, cost=cost, **both)


@dataclass(eq=False)
class FakeSlot:
    """One worker that is always there."""

    number: int
    job: Job | None = None
    group: Hashable = None
    pid: int | None = 1


class FakePool:
    """``width`` slots. ``script`` may answer a job itself; None leaves it to :meth:`usual`."""

    def __init__(
        self, runs: Path, width: int = 2, script: Callable[[Job], Outcome | None] = lambda job: None
    ):
        self.store, self.width, self.script = RunStore(runs), width, script
        self.slots = [FakeSlot(number) for number in range(width)]
        self.begun: list[tuple[int, Job]] = []
        self.most_at_once = 0
        self.renewed = 0

    def idle(self):
        return [slot for slot in self.slots if slot.job is None]

    def busy(self):
        return [slot for slot in self.slots if slot.job is not None]

    def admits(self, slot, need):
        return True

    def start(self, slot, job, need=0):
        slot.job = job
        self.begun.append((slot.number, job))
        self.most_at_once = max(self.most_at_once, len(self.busy()))

    def wait(self, seconds):
        """The oldest job ends; the others go on."""
        if not self.busy():
            return []
        order = {id(job): index for index, (_, job) in enumerate(self.begun)}
        slot = min(self.busy(), key=lambda slot: order[id(slot.job)])
        job, slot.job = slot.job, None
        return [(slot, job, self.script(job) or self.usual(job))]

    def renew(self, slot):
        self.renewed += 1

    def close(self):
        """Nothing to end."""

    def usual(self, job: Job) -> Outcome:
        """What happens when nothing goes wrong: the record is found or written."""
        if not isinstance(job, RunSpec):
            return Done()
        made = record(called(job).key)
        if self.store.get(made.id) is not None:
            return Done(made.id, 5.0, new=False)
        self.store.write(made)
        return Done(made.id, 1.0)

    @property
    def tasks_begun(self) -> list[RunSpec]:
        """Tasks in the order in which they were begun."""
        return [job for _, job in self.begun if isinstance(job, RunSpec)]


def called(one: RunSpec) -> RunSpec:
    """The task by whose key the record of this one is called; aliases of an attack share a record."""
    alias = one.attack == "pgd[steps=10]"
    return task(one.group.victim.victim, "pgd", one.seed) if alias else one
