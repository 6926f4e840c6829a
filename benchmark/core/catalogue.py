"""Catalogues: JSON files with what classes declare, for listings that do not import the classes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from inspect import isabstract
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType
from typing import Any


def classes_of(package: ModuleType, base: type) -> Iterator[Any]:
    """The concrete subclasses of ``base`` that define name and version, from all modules of a package."""
    for found in walk_packages(package.__path__, f"{package.__name__}."):
        for cls in vars(import_module(found.name)).values():
            here = isinstance(cls, type) and issubclass(cls, base) and cls.__module__ == found.name
            if here and not isabstract(cls) and {"name", "version"} <= vars(cls).keys():
                yield cls


def write_catalogue(file: Path, found: dict[str, Any]) -> None:
    """Write ``found`` by name, in the order of the existing file; new names come last."""
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    names = [*(name for name in before if name in found), *(name for name in found if name not in before)]
    file.write_text(json.dumps({name: found[name] for name in names}, indent=1) + "\n", encoding="utf-8")
    print(f"written: {file}")
