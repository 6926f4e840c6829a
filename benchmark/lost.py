"""A run that was lost, as tables and commands name it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """``reason``: one line, with file and line of an attack's or a victim's own code where that raised."""

    victim: str
    attack: str
    seed: int
    reason: str

    def __str__(self) -> str:
        return f"{self.victim}, {self.attack}, seed {self.seed}: {self.reason}"
