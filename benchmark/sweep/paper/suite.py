"""Suites of the paper: tables, rows, and the single runs of a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vbench.attacks.build import build_attack, presets
from vbench.attacks.registry import attacks
from vbench.core.errors import BadInput, unknown_name
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


#: In place of a preset: the attack's defaults.
DEFAULT = "default"

#: Stages for checks before a victim is opened, when their names do not matter.
ANY_STAGES = ("stem",) * 9


@dataclass(frozen=True)
class Settings:
    """Settings of all rows: a preset of ``fsam_uap``; ``common`` ones of every attack that has them."""

    preset: str = "paper"
    common: Mapping[str, str] = field(default_factory=dict)

    def check(self, suites: Sequence[Suite]) -> None:
        """Raise :class:`BadInput` for settings that no attack of these suites has, or that their rows set."""
        known = (*presets(attacks.load("fsam_uap")), DEFAULT)
        if self.preset not in known:
            raise unknown_name("preset of fsam_uap", self.preset, known)
        lines = [(suite, line) for suite in suites for line in suite.lines]
        for name in self.common:
            for suite, line in lines:
                if name in line.fixed or name in ("level", "preset"):
                    raise BadInput(
                        f"--set {name}: the rows of '{suite.name}' set it themselves"
                        if name in line.fixed
                        else f"--set {name}: use --{name}"
                    )
            everywhere = {one for _, line in lines for one in _fields(line)}
            if name not in everywhere:
                raise unknown_name("setting of these attacks", name, everywhere)
        for _, line in lines:
            self.attack(line, "pixel", ANY_STAGES)

    def attack(self, line: Line, level: str, stages: Sequence[str]) -> Any:
        """The attack of a row for a victim with ``stages``, in forward order.

        An attack without modules is the same at feature level as at pixel level. Raises :class:`BadInput` if
        the victim does not have the row's block, and for invalid values.
        """
        settings = {name: value for name, value in self.common.items() if name in _fields(line)}
        if line.attack == "fsam_uap" and self.preset != DEFAULT:
            settings["preset"] = self.preset
        settings |= line.settings
        if line.block is not None:
            if line.block >= len(stages):
                raise BadInput(f"there is no block{line.block}: its stages are {', '.join(stages)}")
            settings["stages"] = stages[line.block]
        attack = build_attack(line.attack, settings)
        if level == "feature" and line.levelled and has_modules(attack):
            attack = build_attack(line.attack, {**settings, "level": "feature"})
        return attack


def has_modules(attack: Any) -> bool:
    """Whether an ``fsam_uap`` attack has modules that can stay inside a victim."""
    return attack.fsam or attack.sfm


def _fields(line: Line) -> list[str]:
    return [one.name for one in dataclasses.fields(attacks.load(line.attack))]
