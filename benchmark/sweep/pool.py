"""What an engine must offer to the scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vbench.sweep.jobs import Job, Outcome
from vbench.sweep.tasks import Group


class Slot(Protocol):
    """Room for one job at a time; ``opened`` is the group whose victim is open there, if that is known."""

    job: Job | None
    opened: Group | None

    @property
    def pid(self) -> int | None:
        """The process behind it, where it is on this host."""


class Pool(Protocol):
    """Workers of an engine. ``width``: how many jobs run at once, as far as is known.

    ``remote`` says that workers may have other disks: what was learnt travels with a job, and records come
    back with the outcome.
    """

    width: int
    remote: bool

    def idle(self) -> Sequence[Slot]:
        """Slots that can take a job."""

    def busy(self) -> Sequence[Slot]:
        """Slots with a job."""

    def admits(self, slot: Slot, need: int) -> bool:
        """Whether a job that may need ``need`` bytes can start now."""

    def start(self, slot: Slot, job: Job, need: int = 0) -> None:
        """Start a job."""

    def wait(self, seconds: float) -> list[tuple[Slot, Job, Outcome]]:
        """Outcomes that came in, waiting at most ``seconds`` for the first."""

    def renew(self, slot: Slot) -> None:
        """Give up a worker that may be in a bad state."""

    def close(self) -> None:
        """End whatever still runs."""
