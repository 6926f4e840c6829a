"""What built-in attacks and victims declare, from ``declared.json``: nothing is imported to know it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

from vbench.attack_spec import label_of
from vbench.attacks.catalogue import LIBRARIES


@dataclass(frozen=True)
class Declared:
    """One built-in attack: its class in figures. ``settings`` below are those of a record."""

    name: str
    version: int
    universal: bool
    needs: tuple[str, ...]
    norms: tuple[str, ...]
    defaults: Mapping[str, Any]
    schemas: Mapping[str, Any]
    presets: Mapping[str, Mapping[str, Any]]
    base: frozenset[str]
    knows_more: Mapping[str, Mapping[str, list[str]]]
    choices_that_tamper: Mapping[str, Mapping[str, bool]]
    members: tuple[Mapping[str, Any], ...]

    def problems(self, settings: Mapping[str, Any]) -> list[str]:
        """What is wrong with settings, one line each: unknown names, and values that the field refuses."""
        unknown = [
            f"settings.{name}: {self.name} has no such setting" for name in settings.keys() - self.schemas
        ]
        wrong = [
            f"settings.{'.'.join(str(part) for part in error.path)}: {_short(error.message)}"
            for error in self._validator.iter_errors(dict(settings))
        ]
        return sorted(unknown + wrong)

    def knowledge(self, settings: Mapping[str, Any]) -> list[str]:
        """What the attacker knows beyond victim and image, sorted."""
        more = [known for choices in self._chosen(self.knows_more, settings) for known in choices]
        return sorted(self.base.union(more))

    def tampers(self, settings: Mapping[str, Any]) -> bool:
        """Whether the attack changes features inside the victim."""
        return any(self._chosen(self.choices_that_tamper, settings))

    def label(self, settings: Mapping[str, Any]) -> str:
        """The name with what is not its default; a setting that a record lacks has its default."""
        return label_of(self.name, {**self.defaults, **settings}, self.defaults, self.presets)

    @property
    def black_box(self) -> bool:
        """Whether the attack sees embeddings alone."""
        return self.needs == ("embeddings",)

    @property
    def blind(self) -> bool:
        """Whether the attack sees nothing of the victim, as noise."""
        return not self.needs and not self.members

    @cached_property
    def _validator(self) -> Any:
        # Slow to load, and only archives of known settings come without a need for it.
        from jsonschema import Draft202012Validator

        return Draft202012Validator({"type": "object", "properties": dict(self.schemas)})

    @staticmethod
    def _chosen(by_choice: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]) -> list[Any]:
        return [
            answers[settings[name]]
            for name, answers in by_choice.items()
            if isinstance(settings.get(name), str) and settings[name] in answers
        ]


@cache
def declared_attack(name: str) -> Declared | None:
    """What an attack of this name declares; None if it is not built in."""
    found = _file()["attacks"].get(name)
    if found is None:
        return None
    return Declared(
        name=name,
        version=found["version"],
        universal=found["universal"],
        needs=tuple(found["needs"]),
        norms=tuple(found["norms"]),
        defaults=found["defaults"],
        schemas=found["schemas"],
        presets=found["presets"],
        base=frozenset(found["knowledge"]),
        knows_more=found["knows_more"],
        choices_that_tamper=found["tampers"],
        members=tuple(found["members"]),
    )


def of_library(name: str) -> bool:
    """Whether a name is that of an attack reached through a library: per-image, with nothing known."""
    return name.partition(":")[0] in LIBRARIES and ":" in name


@dataclass(frozen=True)
class DeclaredVictim:
    """One built-in victim: names of its options, and those that choose what is ranked, with defaults."""

    name: str
    version: int
    options: tuple[str, ...]
    settings: Mapping[str, Any]

    def label(self, options: Mapping[str, Any]) -> str:
        """The name with the settings of its ranking that are not the default."""
        usual = {name: value for name, value in self.settings.items() if name in options}
        return label_of(self.name, options, usual, {})


@cache
def declared_victim(name: str) -> DeclaredVictim | None:
    """What a victim of this name declares; None if it is not built in."""
    found = _file()["victims"].get(name)
    if found is None:
        return None
    return DeclaredVictim(name, found["version"], tuple(found["options"]), found["settings"])


@cache
def _file() -> dict[str, Any]:
    return json.loads(files("vbench.reports.verify").joinpath("declared.json").read_text(encoding="utf-8"))


def _short(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:157]}..."
