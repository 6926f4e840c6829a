"""Failing loudly where the method would quietly become another attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vbench.attacks.fsam_uap.modules import MaskStatistics
from vbench.errors import VbenchError

#: A module whose mask is this flat and this close to 0 or 1 is a constant, not attention.
_SATURATED = 0.99
_DEAD = 0.001


def refuse_saturation(masks: Mapping[str, MaskStatistics]) -> None:
    """Raise :class:`VbenchError` when nearly all values of a mask lie within 0.01 of 0 or 1."""
    for name, found in masks.items():
        if found.saturated >= _SATURATED:
            raise VbenchError(
                f"fsam_uap: the attention of {name} is saturated (mean {found.mean:.3f}, spread "
                f"{found.spread:.4f}), so the module is a constant; lower module_steps or module_rate"
            )


def refuse_dead_hinge(active: Sequence[float]) -> None:
    """Raise :class:`VbenchError` when the AQAL had (almost) no active triple over the whole fit."""
    share = sum(active) / len(active)
    if share < _DEAD:
        raise VbenchError(
            f"fsam_uap: the AQAL hinge is dead ({share:.2%} active triples), so the loss does nothing; "
            "raise margin, set hinge=soft, or switch it off with aqal=false"
        )
