"""The attacks by name: built in, installed, of libraries, and given by path. Loads none of them.

``catalogue.json`` holds facts about the built-in ones, see :mod:`vbench.attacks.declare`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vbench.core.registry import Entry, Registry

if TYPE_CHECKING:
    from vbench.attacks.base import Attack


@dataclass(frozen=True)
class Price:
    """What an attack needs to know and what it costs, with its default settings.

    ``knowledge``: white box or black box, and what it knows beyond victim and image. ``gradients``: images
    sent forward and backward through the victim, per attacked image or per fit (``fit``); ``queries``: images
    sent forward only, per attacked image; ``fits``: gradients of fits in addition to the cost per image. A
    universal attack costs nothing per image; forward passes that prepare or steer its fit are not counted.
    """

    knowledge: str
    gradients: int = 0
    queries: int = 0
    fit: bool = False
    fits: int = 0

    @property
    def cost(self) -> str:
        """The cost as shown in a listing."""
        parts = [
            f"{count} {what if count > 1 else one}"
            for count, what, one in (
                (self.gradients, "gradients", "gradient"),
                (self.queries, "queries", "query"),
            )
            if count
        ]
        cost = f"{' + '.join(parts) or 'nothing'} {'a fit' if self.fit else 'an image'}"
        return f"{cost}, {self.fits} gradients a fit" if self.fits else cost


#: Libraries whose attacks are named ``prefix:NAME``: prefix -> (target, summary). The target is called with
#: the name and returns the class.
LIBRARIES: dict[str, tuple[str, str]] = {
    "torchattacks": (
        "vbench.attacks.from_torchattacks:attack",
        "any L_inf or L2 attack of torchattacks on the identity classifier, by its class name",
    ),
    "art": (
        "vbench.attacks.from_art:attack",
        "any L_inf or L2 evasion attack of ART on the identity classifier, by its class name",
    ),
}

#: The built-in attacks by name, in the order of listings.
ATTACKS: dict[str, dict[str, Any]] = json.loads(
    files("vbench.attacks").joinpath("catalogue.json").read_text(encoding="utf-8")
)
PRICES = {name: Price(**facts["price"]) for name, facts in ATTACKS.items()}


def _attacks() -> Iterator[Entry]:
    for name, facts in ATTACKS.items():
        price, norms = PRICES[name], ", ".join(facts["norms"])
        columns = {"knowledge": price.knowledge, "cost": price.cost, "norms": norms}
        yield Entry(name, facts["target"], facts["summary"], facts["paper"], facts["kind"], facts=columns)


def _libraries() -> Iterator[Entry]:
    for name, (target, summary) in LIBRARIES.items():
        columns = {"knowledge": "classifier", "cost": "its settings say", "norms": "l2, linf"}
        yield Entry(name, target, summary, traits="per-image", origin=name, facts=columns)


#: The files of the libraries that import each attack by its name.
_LISTS = {"torchattacks": ("torchattacks", "__init__.py"), "art": ("art", "attacks/evasion/__init__.py")}


def _offers() -> Iterator[str]:
    """The attacks of the libraries installed here, ``library:NAME``, read without importing any: that takes
    seconds."""
    for library, (package, file) in _LISTS.items():
        found = find_spec(package)
        if found is not None and found.origin:
            text = (Path(found.origin).parent / file).read_text(encoding="utf-8")
            for names in re.findall(r"^from \S+ import (.+)", text, re.M):
                yield from (f"{library}:{name}" for name in re.findall(r"\w+", names))


attacks: Registry[Attack] = Registry(
    "attack", "vbench.attacks.base:Attack", _attacks(), _libraries(), words=("all",), offers=_offers
)


def list_attacks() -> list[str]:
    """Names of all attacks that :func:`vbench.evaluate` and :func:`vbench.build_attack` know.

    Those of libraries, such as ``torchattacks:PGD`` and ``art:DeepFool``, go by their class names and are not
    listed.
    """
    return attacks.names()
