"""VIReID models under test. One file a model; everything here is loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vbench.victims.base import Edits, Victim, VictimOutput, frozen

__all__ = ["Edits", "Victim", "VictimOutput", "frozen"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from vbench.victims import base

        return getattr(base, name)
    raise AttributeError(name)
