"""Attacks on a ranking, one file per attack; everything here is loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vbench.core import lazy

if TYPE_CHECKING:
    from vbench.attacks.base import Attack, Battery, Context, PerImageAttack, UniversalAttack
    from vbench.attacks.build import build_attack
    from vbench.attacks.distances import squared_distance
    from vbench.attacks.perturbation import Perturbation
    from vbench.attacks.steps import ascend
    from vbench.attacks.updates import learn_delta, updates_for

_HOMES = {
    "Attack": "base",
    "Battery": "base",
    "Context": "base",
    "PerImageAttack": "base",
    "Perturbation": "perturbation",
    "UniversalAttack": "base",
    "ascend": "steps",
    "build_attack": "build",
    "learn_delta": "updates",
    "squared_distance": "distances",
    "updates_for": "updates",
}

__all__ = [
    "Attack",
    "Battery",
    "Context",
    "PerImageAttack",
    "Perturbation",
    "UniversalAttack",
    "ascend",
    "build_attack",
    "learn_delta",
    "squared_distance",
    "updates_for",
]

__getattr__ = lazy(__name__, _HOMES)
