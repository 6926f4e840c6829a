"""The interface of an engine; the jobs that workers get and the outcomes that they return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from vbench.records.spec import DataSpec, ModelSpec, RunSpec, Setup


@dataclass(frozen=True)
class WriteSet:
    """Write a synthetic data set."""

    data: DataSpec

    @property
    def title(self) -> str:
        """One line that describes the job."""
        return f"writing the synthetic set of {self.data.protocol}"


@dataclass(frozen=True)
class Train:
    """Train a thin victim on synthetic data."""

    data: DataSpec
    model: ModelSpec

    @property
    def title(self) -> str:
        """One line that describes the job."""
        return f"training a thin {self.model.victim} for {self.data.protocol}"


@dataclass(frozen=True)
class Open:
    """Open the victims of a group, and find the record id of each of its tasks."""

    group: Setup
    tasks: tuple[RunSpec, ...]

    @property
    def title(self) -> str:
        """One line that describes the job."""
        return f"opening {self.group.victim.victim} on {self.group.data.protocol}"


@dataclass(frozen=True)
class Do:
    """Do a task. ``learnt``: perturbations of earlier tasks that this one would learn again.

    By fit id: the path of the perturbation, or its content if hosts share no disk.
    """

    task: RunSpec
    learnt: Mapping[str, str | bytes] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """One line that describes the job."""
        return self.task.title


Job = WriteSet | Train | Open | Do


@dataclass(frozen=True)
class Identity:
    """``record``: id of a task's record; ``fits``: ids of its fits; ``memory``: bytes that it may need."""

    record: str
    fits: tuple[str, ...] = ()
    memory: int = 0


@dataclass(frozen=True)
class Ready:
    """A data set is written, or a victim trained."""


@dataclass(frozen=True)
class Opened:
    """Task key -> identity of the task, or the reason why it cannot be done."""

    identities: Mapping[str, Identity | str]


@dataclass(frozen=True)
class Did:
    """A task is done and its record stored.

    ``fits``: fit id -> file of the perturbation, relative to the folder of runs. ``memory``: highest resident
    set size in bytes. ``files``: relative path -> content, if the worker cannot write to the folder of runs.
    """

    record: str
    seconds: float
    fits: Mapping[str, str] = field(default_factory=dict)
    memory: int = 0
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """A job failed. ``sound``: False if the worker may be in a bad state."""

    reason: str
    sound: bool = True


@dataclass(frozen=True)
class Died:
    """The worker died, with the reason if known; ``final``: the job must not be retried."""

    reason: str
    final: bool = False


Outcome = Ready | Opened | Did | Failed | Died


class Slot(Protocol):
    """A place for one job at a time; ``opened``: the group whose victim is open there, if known."""

    job: Job | None
    opened: Setup | None

    @property
    def pid(self) -> int | None:
        """The id of its process, if that is on this host."""


#: The type of an engine's slots.
SlotT = TypeVar("SlotT", bound=Slot)


class Pool(Protocol[SlotT]):
    """Workers of an engine. ``width``: how many jobs can run at once, if known.

    ``remote``: workers may have other disks, so perturbations are sent with a job, and records are returned
    with the outcome.
    """

    width: int
    remote: bool

    def idle(self) -> Sequence[SlotT]:
        """Slots that can take a job."""

    def busy(self) -> Sequence[SlotT]:
        """Slots with a job."""

    def admits(self, slot: SlotT, need: int) -> bool:
        """Whether a job that may need ``need`` bytes of memory can start now."""

    def start(self, slot: SlotT, job: Job, need: int = 0) -> None:
        """Start a job."""

    def wait(self, seconds: float) -> list[tuple[SlotT, Job, Outcome]]:
        """Outcomes of finished jobs, waiting at most ``seconds`` for the first."""

    def renew(self, slot: SlotT) -> None:
        """Replace a worker that may be in a bad state."""

    def close(self) -> None:
        """End all workers."""


def spent(cost: Mapping[str, float]) -> float:
    """Seconds of fitting and attacking, from the cost in a record."""
    return cost.get("fit_seconds", 0.0) + cost.get("attack_seconds", 0.0)
