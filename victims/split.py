"""Which training identities a released checkpoint has seen."""

from __future__ import annotations

import re
from pathlib import Path

#: Numbers of training identities that tell the data set.
_CLASSES = {395: "sysu", 713: "llcm"}
_REGDB_CLASSES = 206
_TRIAL = re.compile(r"trial_?-?(\d+)")


def released_split(path: Path, num_classes: int) -> str | None:
    """The split of a released file: "sysu", "llcm", "regdb/trial-3", or None where nothing tells it.

    RegDB has ten splits with different training identities; all authors put the number into the file name.
    """
    if num_classes != _REGDB_CLASSES:
        return _CLASSES.get(num_classes)
    trial = _TRIAL.search(path.name)
    return f"regdb/trial-{int(trial[1])}" if trial and 1 <= int(trial[1]) <= 10 else None


def is_regdb(num_classes: int) -> bool:
    """Whether a classifier has RegDB's number of training identities."""
    return num_classes == _REGDB_CLASSES
