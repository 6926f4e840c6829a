"""The interface of an engine: the jobs that workers get, their outcomes, and the pool of workers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from vbench.records.spec import DataSpec, ModelSpec, RunSpec


@dataclass(frozen=True)
class Prepare:
    """Write a synthetic data set and, with ``model``, train that thin victim on it."""

    data: DataSpec
    model: ModelSpec | None = None

    @property
    def title(self) -> str:
        """One line that describes the job."""
        if self.model is None:
            return f"writing the synthetic set of {self.data.protocol}"
        return f"training a thin {self.model.victim} for {self.data.protocol}"


Job = Prepare | RunSpec


@dataclass(frozen=True)
class Done:
    """A job is done. ``record``: id of a run's record; ``new``: False if the record was there before.

    ``memory``: highest resident set size in bytes. ``files``: relative path -> content, if the worker cannot
    write to the folder of runs.
    """

    record: str = ""
    seconds: float = 0.0
    new: bool = True
    memory: int = 0
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """A job failed. ``sound``: False if the worker may be in a bad state."""

    reason: str
    sound: bool = True


@dataclass(frozen=True)
class Died:
    """The worker died, with the reason if known."""

    reason: str


Outcome = Done | Failed | Died


class Slot(Protocol):
    """A place for one job at a time; ``group``: that of its last run, whose victim may be open there."""

    job: Job | None
    group: Hashable

    @property
    def pid(self) -> int | None:
        """The id of its process, if that is on this host."""


#: The type of an engine's slots.
SlotT = TypeVar("SlotT", bound=Slot)


class Pool(Protocol[SlotT]):
    """Workers of an engine. ``width``: how many jobs can run at once, if known."""

    width: int

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
