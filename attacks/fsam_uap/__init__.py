"""Feature-level universal attack with frequency-spatial attention (Yang et al., NeurIPS 2024)."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "FSAMUAP":
        from vbench.attacks.fsam_uap.attack import FSAMUAP

        return FSAMUAP
    raise AttributeError(name)
