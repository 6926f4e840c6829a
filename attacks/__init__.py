"""Attacks on a ranking. One file an attack; everything here is loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vbench.attacks.base import Attack, Context, PerImageAttack, UniversalAttack
    from vbench.attacks.perturbation import Perturbation

__all__ = ["Attack", "Context", "PerImageAttack", "Perturbation", "UniversalAttack"]


def __getattr__(name: str) -> Any:
    if name == "Perturbation":
        from vbench.attacks.perturbation import Perturbation

        return Perturbation
    if name in __all__:
        from vbench.attacks import base

        return getattr(base, name)
    raise AttributeError(name)
