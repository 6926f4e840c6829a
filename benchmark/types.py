"""The vocabulary that every part shares: modalities and sides. Imports nothing heavy."""

from __future__ import annotations

from enum import Enum


class Modality(str, Enum):
    """Which kind of camera took an image."""

    VISIBLE = "visible"
    INFRARED = "infrared"

    @property
    def other(self) -> Modality:
        """The modality at the other end of a cross-modality query."""
        return Modality.INFRARED if self is Modality.VISIBLE else Modality.VISIBLE


class Side(str, Enum):
    """Which images of a ranking the attacker may change."""

    QUERY = "query"
    GALLERY = "gallery"
    BOTH = "both"
