"""The attacks by name: built in, installed, of libraries, and given by path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vbench.attacks.catalogue import ATTACKS, LIBRARIES, PRICES
from vbench.core.registry import Entry, Registry

if TYPE_CHECKING:
    from vbench.attacks.base import Attack


def _attacks() -> Iterator[Entry]:
    for name, row in ATTACKS.items():
        price = PRICES.get(name)
        columns = {"knowledge": price.knowledge, "cost": price.cost} if price else {}
        yield Entry(name, *row, facts=columns)


def _libraries() -> Iterator[Entry]:
    for name, (target, summary) in LIBRARIES.items():
        columns = {"knowledge": "classifier", "cost": "its settings say"}
        yield Entry(name, target, summary, traits="per-image", origin=name, facts=columns)


attacks: Registry[Attack] = Registry(
    "attack", "vbench.attacks.base:Attack", _attacks(), _libraries(), words=("all",)
)
