"""Types that all packages share: modalities, sides, ranking rules. Imports nothing heavy."""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, Literal, Protocol


class Named(Protocol):
    """Anything with a name in a registry: victims, attacks, data set readers."""

    name: ClassVar[str]


class Modality(str, Enum):
    """The kind of camera that took an image."""

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


#: How two embeddings can be compared. "cosine", "euclidean"; "dot": plain dot product, for embeddings that
#: concatenate the weighted vectors of a fused ranking; "dot-max" and "dot-min": an embedding is two vectors
#: a, b in one row, and the largest (smallest) of the four dot products aa', ab', ba', bb' counts.
SIMILARITIES = ("cosine", "euclidean", "dot", "dot-max", "dot-min")

#: The ranking rules, named after the data set that each belongs to.
RankingRule = Literal["sysu", "regdb", "llcm"]
