"""What a suite of the paper holds: tables, rows, and one run of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vbench.data.protocols import all_protocols
from vbench.records.record import Record

#: Where the perturbation acts. "pixel": x + d is shown to the unmodified victim. "feature": the attack's
#: modules also stay inside the victim. Rows of both never share a table.
LEVELS = ("pixel", "feature")


@dataclass(frozen=True)
class Line:
    """One row: its name, its attack and the settings that make it this row.

    ``block``: the modules sit at the victim's stage of this number, 0 being the stem. ``published`` is the
    attack of ``published.csv`` that this row is, empty where the paper prints none.
    """

    name: str
    attack: str
    settings: Mapping[str, str] = field(default_factory=dict)
    block: int | None = None
    published: str = ""

    @property
    def levelled(self) -> bool:
        """Whether the attack exists at feature level too."""
        return self.attack == "fsam_uap"

    @property
    def fixed(self) -> set[str]:
        """The settings that this row is about."""
        return {*self.settings, *(() if self.block is None else ("stages",))}


@dataclass(frozen=True)
class Suite:
    """One table of the paper.

    ``source`` begins the source of its figures in ``published.csv``, empty where none is known. ``across``:
    a row a victim, before and after, instead of a row an attack below the clean one. ``victims`` are the
    paper's. ``notes`` stand under the table.
    """

    name: str
    title: str
    lines: tuple[Line, ...]
    source: str = ""
    victims: tuple[str, ...] = ("agw",)
    across: bool = False
    notes: tuple[str, ...] = ()


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


SPLITS = 10


def expand(protocols: Sequence[str]) -> list[str]:
    """Replace "regdb/vis2ir" by its ten splits; keeps order, drops repeats.

    >>> expand(["regdb/vis2ir"])[:2]
    ['regdb/vis2ir/trial-1', 'regdb/vis2ir/trial-2']
    """
    found: list[str] = []
    for one in protocols:
        splits = [text for text in all_protocols("regdb") if text.startswith(f"{one}/trial-")]
        found += splits or [one]
    return list(dict.fromkeys(found))


def question(protocol: str) -> str:
    """The protocol without the number of a split.

    >>> question("regdb/vis2ir/trial-3"), question("sysu/all/single/ir2vis/seed10")
    ('regdb/vis2ir', 'sysu/all/single/ir2vis/seed10')
    """
    head, found, _ = protocol.partition("/trial-")
    return head if found else protocol
