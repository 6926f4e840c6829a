"""Feature-level universal attack with frequency-spatial attention (Yang et al., NeurIPS 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vbench.core import lazy

if TYPE_CHECKING:
    from vbench.attacks.fsam_uap.attack import FSAMUAP

__all__ = ["FSAMUAP"]

__getattr__ = lazy(__name__, {"FSAMUAP": "attack"})
