"""One place in a table: which run belongs there, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass

from vbench.paper.suite import Line, Suite
from vbench.record import Record


@dataclass(frozen=True)
class Place:
    """What all rows of a table share: protocol, whether the data are drawn, and the threat model's card."""

    protocol: str
    synthetic: bool
    trials: int
    threat: tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class Slot:
    """One row of one suite at one level, on one victim under one protocol, with one seed.

    ``id`` names the run's configuration, and ``label`` its attack; both are empty, with ``unfit`` saying why,
    where the row does not apply to the victim. Several slots may want the same run.
    """

    suite: Suite
    line: Line
    level: str
    victim: str
    place: Place
    seed: int
    id: str = ""
    label: str = ""
    unfit: str = ""


@dataclass(frozen=True)
class Filled:
    """A slot with its record; or with ``failed``, the reason why there is none; or with neither: not run."""

    slot: Slot
    record: Record | None = None
    failed: str = ""
