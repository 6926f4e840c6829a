"""The victims by name: built in, installed, and given by path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vbench.core.registry import Entry, Registry
from vbench.victims.catalogue import VICTIMS

if TYPE_CHECKING:
    from vbench.victims.base import Victim


def _victims() -> Iterator[Entry]:
    for name, facts in VICTIMS.items():
        height, width = facts.input_size
        columns = {
            "year": str(facts.year),
            "parameters": f"{facts.parameters:.1f} M",
            "input": f"{height}x{width}",
            "embedding": str(facts.embedding),
        }
        yield Entry(name, facts.target, facts.summary, facts.paper, facts=columns)


victims: Registry[Victim] = Registry(
    "victim", "vbench.victims.base:Victim", _victims(), words=("all", "none")
)
