"""VIReID models under test, one file per model; everything here is loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vbench.core import lazy

if TYPE_CHECKING:
    from vbench.victims.base import Edits, Victim, VictimOutput, frozen
    from vbench.victims.layers import Normalise
    from vbench.victims.load import build_victim, load_victim
    from vbench.victims.make import build_then_initialise
    from vbench.victims.training.recipe import Recipe, TrainBatch

_HOMES = {
    "Edits": "base",
    "Normalise": "layers",
    "Recipe": "training.recipe",
    "TrainBatch": "training.recipe",
    "Victim": "base",
    "VictimOutput": "base",
    "build_then_initialise": "make",
    "build_victim": "load",
    "frozen": "base",
    "load_victim": "load",
}

__all__ = [
    "Edits",
    "Normalise",
    "Recipe",
    "TrainBatch",
    "Victim",
    "VictimOutput",
    "build_then_initialise",
    "build_victim",
    "frozen",
    "load_victim",
]

__getattr__ = lazy(__name__, _HOMES)
