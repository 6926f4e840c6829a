"""A suite from its file, with every complaint pointing at the line it is about."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vbench.errors import BadInput
from vbench.sweep.located import Located, Place, read_located
from vbench.sweep.suite import Suite

_SHOWN = 10


@dataclass(frozen=True)
class SuiteFile:
    """A suite, and where each part of it stands."""

    suite: Suite
    located: Located

    @property
    def folder(self) -> Path:
        """What relative paths of the suite start from."""
        return self.located.path.resolve().parent

    def refuse(self, complaints: Iterable[tuple[Place, str]]) -> None:
        """Raise :class:`BadInput` with a line for each complaint, if there are any."""
        refuse(self.located, complaints)


def read_suite(path: Path) -> SuiteFile:
    """Read and validate a suite; its name is that of the file unless it says another.

    Raises :class:`BadInput` with one line for each thing that is wrong: file, line, place, reason.
    """
    located = read_located(path)
    if not isinstance(located.value, dict):
        raise BadInput(f"{path}:1: a suite is a mapping with keys such as victims and attacks")
    given: dict[str, Any] = {"name": _stem(path), **located.value}
    try:
        return SuiteFile(Suite.model_validate(given), located)
    except ValidationError as error:
        refuse(located, (_told(found) for found in error.errors(include_url=False)))
        raise


def refuse(located: Located, complaints: Iterable[tuple[Place, str]]) -> None:
    """See :meth:`SuiteFile.refuse`."""
    lines = list(dict.fromkeys(located.error(place, reason) for place, reason in complaints))
    if lines:
        more = [f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise BadInput("\n".join([*lines[:_SHOWN], *more]))


def _told(found: Any) -> tuple[Place, str]:
    place = tuple(found["loc"])
    context = found.get("ctx", {})
    if found["type"] == "vbench":
        return (*place, *context["place"]), context["reason"]
    if found["type"] == "missing":
        return place, f"'{place[-1]}' is missing"
    if found["type"] in ("model_type", "dict_type"):
        return place, f"should be a mapping of keys, not {_shown(found['input'])}"
    return place, f"{_lower(found['msg'])}, not {_shown(found['input'])}"


def _lower(message: str) -> str:
    return message.replace("Input should be", "should be", 1)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _stem(path: Path) -> str:
    safe = re.sub(r"[^A-Za-z0-9_.-]", "-", path.stem).lstrip(".-")
    return safe[:64] or "suite"
