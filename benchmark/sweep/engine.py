"""What an engine offers; what is handed to a worker and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from vbench.records.spec import DataSpec, ModelSpec, RunSpec, Setup


@dataclass(frozen=True)
class WriteSet:
    """Write a synthetic set."""

    data: DataSpec

    @property
    def title(self) -> str:
        """One line that names it."""
        return f"drawing the synthetic set of {self.data.protocol}"


@dataclass(frozen=True)
class Train:
    """Train a thin victim on synthetic data."""

    data: DataSpec
    model: ModelSpec

    @property
    def title(self) -> str:
        """One line that names it."""
        return f"training a thin {self.model.victim} for {self.data.protocol}"


@dataclass(frozen=True)
class Open:
    """Open the victims of a group, and say of each of its tasks what its record is called."""

    group: Setup
    tasks: tuple[RunSpec, ...]

    @property
    def title(self) -> str:
        """One line that names it."""
        return f"opening {self.group.victim.victim} on {self.group.data.protocol}"


@dataclass(frozen=True)
class Do:
    """Do a task. ``learnt`` holds what earlier tasks learnt that this one would learn again.

    By the fit's id: the path of a perturbation, or its content where hosts share no disk.
    """

    task: RunSpec
    learnt: Mapping[str, str | bytes] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """One line that names it."""
        return self.task.title


Job = WriteSet | Train | Open | Do


@dataclass(frozen=True)
class Identity:
    """``record``: id of a task's record; ``fits``: ids of what it learns; ``memory``: bytes it may need."""

    record: str
    fits: tuple[str, ...] = ()
    memory: int = 0


@dataclass(frozen=True)
class Ready:
    """A set is written, or a victim trained."""


@dataclass(frozen=True)
class Opened:
    """By key: the identity of each task, or why it cannot be done."""

    identities: Mapping[str, Identity | str]


@dataclass(frozen=True)
class Did:
    """A task is done and its record stored.

    ``fits``: id of what was learnt -> its file, by the path inside the folder of runs. ``memory``: the
    highest resident set, bytes. ``files``: what was made, by such paths, where the worker could not store it.
    """

    record: str
    seconds: float
    fits: Mapping[str, str] = field(default_factory=dict)
    memory: int = 0
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """Why a job could not be done. ``sound`` is False where the worker may have been left in a bad state."""

    reason: str
    sound: bool = True


@dataclass(frozen=True)
class Died:
    """The worker is gone, and why as far as is known; ``final``: the job was tried often enough."""

    reason: str
    final: bool = False


Outcome = Ready | Opened | Did | Failed | Died


class Slot(Protocol):
    """Room for one job at a time; ``opened`` is the group whose victim is open there, if that is known."""

    job: Job | None
    opened: Setup | None

    @property
    def pid(self) -> int | None:
        """The process behind it, where it is on this host."""


#: The slots of an engine: what it hands out is all that it takes back.
SlotT = TypeVar("SlotT", bound=Slot)


class Pool(Protocol[SlotT]):
    """Workers of an engine. ``width``: how many jobs run at once, as far as is known.

    ``remote`` says that workers may have other disks: what was learnt travels with a job, and records come
    back with the outcome.
    """

    width: int
    remote: bool

    def idle(self) -> Sequence[SlotT]:
        """Slots that can take a job."""

    def busy(self) -> Sequence[SlotT]:
        """Slots with a job."""

    def admits(self, slot: SlotT, need: int) -> bool:
        """Whether a job that may need ``need`` bytes can start now."""

    def start(self, slot: SlotT, job: Job, need: int = 0) -> None:
        """Start a job."""

    def wait(self, seconds: float) -> list[tuple[SlotT, Job, Outcome]]:
        """Outcomes that came in, waiting at most ``seconds`` for the first."""

    def renew(self, slot: SlotT) -> None:
        """Give up a worker that may be in a bad state."""

    def close(self) -> None:
        """End whatever still runs."""


def spent(cost: Mapping[str, float]) -> float:
    """Seconds that a record says its run took: fitting and attacking."""
    return cost.get("fit_seconds", 0.0) + cost.get("attack_seconds", 0.0)
