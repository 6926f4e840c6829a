"""Suites of the paper: tables, rows, and the single runs of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vbench.data.protocols import all_protocols
from vbench.records.record import Record

#: Where the attack acts. "pixel": the unmodified victim gets x + d. "feature": the attack's modules also stay
#: inside the victim. Rows of both are never in one table.
LEVELS = ("pixel", "feature")


@dataclass(frozen=True)
class Line:
    """One row: its name, its attack and the row's settings.

    ``block``: the number of the victim's stage with the modules, 0 is the stem. ``published``: the attack of
    this row in ``published.csv``, empty if the paper has no values for it.
    """

    name: str
    attack: str
    settings: Mapping[str, str] = field(default_factory=dict)
    block: int | None = None
    published: str = ""

    @property
    def levelled(self) -> bool:
        """Whether the attack also exists at feature level."""
        return self.attack == "fsam_uap"

    @property
    def fixed(self) -> set[str]:
        """The settings that this row sets."""
        return {*self.settings, *(() if self.block is None else ("stages",))}


@dataclass(frozen=True)
class Suite:
    """One table of the paper.

    ``source``: the beginning of the source of its values in ``published.csv``, empty if there are none.
    ``across``: one row per victim, with values before and after, instead of one per attack below a clean row.
    ``victims``: those in the paper. ``notes`` are printed below the table.
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
    """What all rows of a table share: protocol, whether the data are synthetic, trials, threat model."""

    protocol: str
    synthetic: bool
    trials: int
    threat: tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class Slot:
    """One row of one suite at one level, on one victim under one protocol, with one seed.

    ``id``: record id of its run; ``label``: the attack with its settings. If the row does not apply to the
    victim, both are empty and ``unfit`` is the reason. Several slots may need the same run.
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
    """A slot with its record; without one ``failed`` is the reason, or empty if it was not run."""

    slot: Slot
    record: Record | None = None
    failed: str = ""


SPLITS = 10


def expand(protocols: Sequence[str]) -> list[str]:
    """Replace "regdb/vis2ir" and "regdb/ir2vis" by their ten splits; keeps order, drops repeats.

    >>> expand(["regdb/vis2ir"])[:2]
    ['regdb/vis2ir/trial-1', 'regdb/vis2ir/trial-2']
    """
    found: list[str] = []
    for one in protocols:
        splits = [text for text in all_protocols("regdb") if text.startswith(f"{one}/trial-")]
        found += splits or [one]
    return list(dict.fromkeys(found))


def question(protocol: str) -> str:
    """The protocol without the number of a RegDB split.

    >>> question("regdb/vis2ir/trial-3"), question("sysu/all/single/ir2vis/seed10")
    ('regdb/vis2ir', 'sysu/all/single/ir2vis/seed10')
    """
    head, found, _ = protocol.partition("/trial-")
    return head if found else protocol
