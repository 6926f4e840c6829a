"""The victims by name: built in, installed, and given by path. Loads none of them.

``catalogue.json`` holds facts about the built-in ones: ``make catalogue`` writes it, after adding a victim or
changing an option or text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vbench.core.registry import Entry, Registry, classes_of, write_catalogue

if TYPE_CHECKING:
    from vbench.victims.base import Victim


@dataclass(frozen=True)
class VictimFacts:
    """Facts for ``vbench list victims``, of the authors' network at full size.

    ``paper`` ends with where and when it was published. ``parameters`` are those a forward pass or training
    uses, in millions; released files hold more. ``full`` and ``thin`` are the options of the authors' network
    and of the small one for synthetic data, without the number of identities and the image size; ``options``
    the names of all options, ``settings`` those that choose what is ranked, with their defaults.
    ``input_size`` is (H, W) in pixels; ``embedding`` the length of the vector that is ranked.
    """

    target: str
    summary: str
    paper: str
    parameters: float
    input_size: tuple[int, int]
    embedding: int
    full: dict[str, Any]
    thin: dict[str, Any]
    version: int
    options: list[str]
    settings: dict[str, Any]

    @property
    def year(self) -> int:
        """The year in which the paper was published."""
        return int(self.paper.split()[-1])


#: The built-in victims by name, in the order of listings.
VICTIMS = {
    name: VictimFacts(**{**found, "input_size": tuple(found["input_size"])})
    for name, found in json.loads(
        files("vbench.victims").joinpath("catalogue.json").read_text(encoding="utf-8")
    ).items()
}


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


_MODEL_FILE = "vbench.victims.model_file:model_file"

victims: Registry[Victim] = Registry(
    "victim",
    "vbench.victims.base:Victim",
    _victims(),
    words=("all", "none"),
    files={".pt2": (_MODEL_FILE, "path"), ".onnx": (_MODEL_FILE, "file")},
)


def list_victims() -> list[str]:
    """Names of all victims that :func:`vbench.evaluate` and :func:`vbench.load_victim` know."""
    return victims.names()


FILE = Path(__file__).with_name("catalogue.json")
_OF_THE_DATA = ("num_classes", "input_size")


def declarations() -> dict[str, Any]:
    """Facts about every built-in victim, by name; JSON-able."""
    import vbench.victims
    from vbench.victims.base import Victim

    found = {cls.name: _declared(cls) for cls in classes_of(vbench.victims, Victim)}
    return json.loads(json.dumps(found))


def _declared(cls: Any) -> dict[str, Any]:
    """The fields of :class:`VictimFacts`."""
    from vbench.victims.base import default_options, option_names

    full, defaults = cls(), default_options(cls)
    parameters = sum(parameter.numel() for parameter in full.parameters())
    return {
        "target": f"{cls.__module__}:{cls.__qualname__}",
        "summary": cls.summary,
        "paper": cls.paper,
        "parameters": round(parameters / 1e6, 1),
        "input_size": full.input_size,
        "embedding": full.embedding_dim,
        "full": _options(defaults),
        "thin": _options(cls(num_classes=5, **cls.THIN).describe()),
        "version": cls.version,
        "options": option_names(cls),
        "settings": {name: defaults.get(name) for name in cls.SETTINGS if name in option_names(cls)},
    }


def _options(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in _OF_THE_DATA}


if __name__ == "__main__":
    write_catalogue(FILE, declarations())
