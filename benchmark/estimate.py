"""What is about to take long, said before it starts."""

from __future__ import annotations

from typing import Any

from vbench.attack_spec import label
from vbench.attacks.catalogue import PRICES

#: Passes through the victim for each image from which an attack is announced.
_MANY = 100


def announcement(attack: Any, images: int, victim: str) -> str | None:
    """One line about an attack that sends each image many times through the victim; None for others."""
    name, price = label(attack), PRICES.get(attack.name)
    queries = getattr(attack, "queries", None)
    if isinstance(queries, int):
        each, what = queries, f"{queries} queries an image"
    elif price and not price.fit and name == attack.name:
        each, what = price.gradients + price.queries, price.cost
    else:
        return None
    if each < _MANY:
        return None
    hint = f"; {attack.name}[queries=100] is quicker and weaker" if queries else ""
    return f"{name} takes {what}: {each * images:,} passes through {victim} for {images:,} images{hint}"
