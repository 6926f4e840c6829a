"""The attack of a row: preset, common settings, level and block."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vbench.attacks.build import build_attack, presets
from vbench.attacks.registry import attacks
from vbench.core.errors import BadInput, unknown_name
from vbench.sweep.paper.suite import Line, Suite

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
