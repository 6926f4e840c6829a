"""Attacks on a ranking. One file an attack; everything here is loaded on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vbench.attacks.base import Attack, Battery, Context, PerImageAttack, UniversalAttack
    from vbench.attacks.perturbation import Perturbation

__all__ = ["Attack", "Battery", "Context", "PerImageAttack", "Perturbation", "UniversalAttack"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        home = {"Perturbation": "perturbation"}.get(name, "base")
        return getattr(import_module(f"vbench.attacks.{home}"), name)
    raise AttributeError(name)
