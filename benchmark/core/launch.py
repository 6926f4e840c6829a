"""Rank and world size that torchrun gave this process, if any. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from vbench.core.errors import BadInput

#: What torchrun sets; if one is missing, the process runs alone.
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Place:
    """``rank``: number of this process among the ``size`` of the run; ``local_*``: the same per machine."""

    rank: int
    size: int
    local_rank: int
    local_size: int


def launched() -> Place | None:
    """The place that the environment variables give this process, None if it runs alone.

    Raises :class:`BadInput` if they are not consistent numbers.
    """
    if not all(os.environ.get(name) for name in _VARIABLES):
        return None
    local = "LOCAL_WORLD_SIZE" if os.environ.get("LOCAL_WORLD_SIZE") else "WORLD_SIZE"
    try:
        place = Place(*(int(os.environ[name]) for name in (*_VARIABLES[:3], local)))
    except ValueError:
        place = Place(0, 0, 0, 0)
    if not (0 <= place.rank < place.size and 0 <= place.local_rank < place.local_size <= place.size):
        found = ", ".join(f"{name}={os.environ[name]}" for name in (*_VARIABLES[:3], local))
        raise BadInput(f"{found} is not a valid rank and world size; start with torchrun, or unset them")
    return place if place.size > 1 else None
