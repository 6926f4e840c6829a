"""What verification says of a record: why it is refused, or what to know about it where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Mark(str, Enum):
    """What could not be checked, or is worth a look: the value is shown as a badge."""

    TOTALS_ONLY = "totals only"
    FOREIGN_DATA = "data not ours"
    FOREIGN_ATTACK = "attack not ours"
    LIBRARY_ATTACK = "library attack"
    FOREIGN_VICTIM = "victim not ours"
    FOREIGN_SURROGATE = "surrogate not ours"
    OLDER_IDENTITY = "older identity"
    OTHER_VERSION = "other version"
    TIES = "ties"

    @property
    def meaning(self) -> str:
        """One sentence for whoever meets the badge."""
        return _MEANINGS[self]


_MEANINGS = {
    Mark.TOTALS_ONLY: "The record keeps no values of single queries, as archives do not: its figures are "
    "possible and fit each other, but were not worked out again.",
    Mark.FOREIGN_DATA: "vbench does not read the data set itself; its protocol and trials are as stated.",
    Mark.FOREIGN_ATTACK: "The attack is not one of vbench: what it knows and its settings are as stated.",
    Mark.LIBRARY_ATTACK: "The attack is one of torchattacks or ART; its settings are as stated.",
    Mark.FOREIGN_VICTIM: "The victim is not one of vbench; its options and its name are as stated.",
    Mark.FOREIGN_SURROGATE: "The attack was crafted on a model that is not one of vbench.",
    Mark.OLDER_IDENTITY: "Its id was made before ids covered the content of images, the code of plugins and "
    "the arithmetic: it names less, and nothing tells whether the record was changed.",
    Mark.OTHER_VERSION: "Made with another version of vbench, whose attack or victim is another or has other "
    "settings.",
    Mark.TIES: "More than 1 % of the queries hang on equal distances: their result is gallery order, "
    "not ranking.",
}


@dataclass(frozen=True)
class Verdict:
    """``reasons`` against a record, each naming the field and both values; empty if it stands."""

    reasons: Sequence[str] = ()
    marks: Sequence[Mark] = ()

    @property
    def stands(self) -> bool:
        """Whether the record is accepted."""
        return not self.reasons
