"""Reads a suite from YAML; errors name the file and line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from vbench.attacks.registry import attacks
from vbench.core.errors import BadInput, shortened
from vbench.core.registry import Registry
from vbench.core.settings import parse
from vbench.data.registry import datasets
from vbench.sweep.suite import Suite
from vbench.victims.registry import victims

Place = tuple["str | int", ...]

#: Limits against untrusted files (a few lines of aliases can expand to millions of values).
MAX_BYTES = 256 * 1024

_MAX_VALUES = 20_000

_MAX_DEPTH = 20

_MAX_DIGITS = 100

_PREFIX = "tag:yaml.org,2002:"

_READ = ("null", "bool", "int", "float")


@dataclass(frozen=True)
class Located:
    """``value``: lists, dictionaries with text keys, scalars. ``lines``: place -> line, from 1."""

    path: Path
    value: Any
    lines: Mapping[Place, int]

    def error(self, place: Place, reason: str) -> str:
        """``file:line: place: reason``, for the innermost part of a place that is in the file."""
        known = next(place[:length] for length in range(len(place), -1, -1) if place[:length] in self.lines)
        where = ".".join(str(part) for part in known)
        return f"{self.path}:{self.lines[known]}: {where + ': ' if where else ''}{reason}"


def read_located(path: Path) -> Located:
    """Read a YAML file; raises :class:`BadInput`, with the line, for anything but plain data."""
    text = _text(path)
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except RecursionError as error:
        raise BadInput(f"{path}: nested too deep") from error
    except yaml.YAMLError as error:
        raise BadInput(_syntax(path, text, error)) from error
    if root is None:
        raise BadInput(f"{path} is empty")
    reader = _Reader(path)
    return Located(path, reader.read(root, ()), reader.lines)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise BadInput(f"{path} is larger than {MAX_BYTES // 1024} KiB; this is no suite")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}:{data[: error.start].count(10) + 1}: not UTF-8 text") from error


def _syntax(path: Path, text: str, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    if mark is None:
        position = getattr(error, "position", 0)
        return f"{path}:{text[:position].count(chr(10)) + 1}: not YAML: {problem}"
    hint = ""
    if problem.endswith("got '['"):
        hint = "; inside [...] a name with settings needs quotes, as in ['pgd[steps=20]']"
    return f"{path}:{mark.line + 1}: not YAML: {problem}{hint}"


class _Reader:
    def __init__(self, path: Path) -> None:
        self.lines: dict[Place, int] = {}
        self._path = path
        self._scalars = yaml.SafeLoader("")

    def read(self, node: yaml.Node, place: Place) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(place, line)
        if len(self.lines) > _MAX_VALUES or len(place) > _MAX_DEPTH:
            raise BadInput(f"{self._path}:{line}: more values than a suite can hold, or nested too deep")
        kind = node.tag.removeprefix(_PREFIX)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [self.read(item, (*place, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return self._mapping(node, place)
        if isinstance(node, yaml.ScalarNode) and kind in (*_READ, "str", "timestamp"):
            return self._scalar(node, kind, line)
        raise BadInput(f"{self._path}:{line}: the YAML tag '{node.tag}' is not allowed; write plain values")

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise BadInput(f"{self._path}:{line}: a key must be a word")
            if key.tag == f"{_PREFIX}merge":
                raise BadInput(f"{self._path}:{line}: merge keys (<<) are not supported; write the keys out")
            name = key.value
            inside = (*place, name)
            if name in found:
                raise BadInput(
                    f"{self._path}:{line}: '{name}' is given twice, first in line {self.lines[inside]}"
                )
            self.lines[inside] = line
            found[name] = self.read(value, inside)
        return found

    def _scalar(self, node: yaml.ScalarNode, kind: str, line: int) -> Any:
        if kind not in _READ:
            return node.value
        shown = shortened(node.value, 40)
        # A number of a hundred thousand digits takes seconds to parse, and Python refuses to print it.
        if len(node.value) > _MAX_DIGITS:
            raise BadInput(f"{self._path}:{line}: '{shown}' is no {kind} that a suite can hold")
        try:
            return getattr(self._scalars, f"construct_yaml_{kind}")(node)
        except (ValueError, KeyError) as error:
            raise BadInput(f"{self._path}:{line}: '{shown}' is no {kind}") from error


_SHOWN = 10


@dataclass(frozen=True)
class SuiteFile:
    """A suite, and the line of each part of it."""

    suite: Suite
    located: Located

    @property
    def folder(self) -> Path:
        """The folder that relative paths in the suite start from."""
        return self.located.path.resolve().parent

    def refuse(self, complaints: Iterable[tuple[Place, str]]) -> None:
        """Raise :class:`BadInput` with a line for each complaint, if there are any."""
        refuse(self.located, complaints)


def read_suite(path: Path) -> SuiteFile:
    """Read and validate a suite; its name is the file's unless it gives another.

    Raises :class:`BadInput` with one line per error: file, line, place, reason.
    """
    located = read_located(path)
    if not isinstance(located.value, dict):
        raise BadInput(f"{path}:1: a suite is a mapping with keys such as victims and attacks")
    given: dict[str, Any] = {"name": _stem(path), **located.value}
    try:
        return SuiteFile(Suite.model_validate(given), located)
    except ValidationError as error:
        refuse(located, (_complaint(found) for found in error.errors(include_url=False)))
        raise


def refuse(located: Located, complaints: Iterable[tuple[Place, str]]) -> None:
    """See :meth:`SuiteFile.refuse`."""
    lines = list(dict.fromkeys(located.error(place, reason) for place, reason in complaints))
    if lines:
        more = [f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise BadInput("\n".join([*lines[:_SHOWN], *more]))


def _complaint(found: Any) -> tuple[Place, str]:
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


_REASON = "names code by path; running it runs that code. If it is yours, give --allow-code"


def refuse_code(file: SuiteFile) -> None:
    """Raise :class:`BadInput`, with lines, for victims, attacks and readers that are given by path."""
    suite = file.suite
    named: list[tuple[Place, Registry, str]] = [
        (("attacks", index), attacks, entry.name) for index, entry in enumerate(suite.attacks)
    ]
    named += [(("datasets", index), datasets, entry.name) for index, entry in enumerate(suite.datasets)]
    named += [(("victims", index), victims, entry.name) for index, entry in enumerate(suite.victims)]
    named += [
        (("surrogates", index, at), victims, entry.name)
        for index, ensemble in enumerate(suite.surrogates)
        for at, entry in enumerate(ensemble)
    ]
    file.refuse(
        (place, _REASON) for place, registry, text in named if registry.by_path(parse(text, registry.kind)[0])
    )
