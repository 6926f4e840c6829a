"""Names to classes: built-ins, installed plugins, and one-offs given by path. Loads nothing until asked."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from vbench.attacks.catalogue import ATTACKS, LIBRARIES, PRICES
from vbench.errors import BadInput, shortened, unknown_name
from vbench.victims.catalogue import VICTIMS


@dataclass(frozen=True)
class Entry:
    """One row of a registry: ``target`` is "module:attribute", ``origin`` says who provides it.

    ``facts`` are further columns of a listing, empty for plugins: nothing is imported to fill them.
    """

    name: str
    target: str
    summary: str
    paper: str = ""
    traits: str = ""
    origin: str = "vbench"
    facts: dict[str, str] = field(default_factory=dict)


class Registry:
    """Classes of one kind by name.

    A name is looked up among the built-ins and those added with :meth:`register`, then among the entry
    points of installed distributions (group ``vbench.<kind>s``). ``library:Name`` is what the entry of that
    library among ``libraries`` makes of the name. ``package.module:Class`` and ``./file.py:Class`` name a
    class directly.
    """

    def __init__(
        self, kind: str, base: str, builtins: Iterable[Entry], libraries: Iterable[Entry] = ()
    ) -> None:
        self.kind = kind
        self._base = base
        self._libraries = {entry.name: entry for entry in libraries}
        self._entries = {entry.name: entry for entry in builtins}
        self._classes: dict[str, type] = {}

    def register(self, name: str) -> Callable[[type], type]:
        """Class decorator that adds ``name``; a name that is taken is refused with :class:`BadInput`."""

        def add(cls: type) -> type:
            if name in self.names():
                raise BadInput(f"{self.kind} '{name}' is registered already ({self.entry(name).target})")
            summary = getattr(cls, "summary", "") or (cls.__doc__ or "").split("\n")[0]
            target = f"{cls.__module__}:{cls.__qualname__}"
            self._entries[name] = Entry(
                name, target, summary, getattr(cls, "paper", ""), origin=cls.__module__
            )
            self._classes[name] = cls
            return cls

        return add

    def names(self) -> list[str]:
        """Every known name: built-ins in their own order, then plugins by name."""
        return [entry.name for entry in self.entries()]

    def entries(self) -> list[Entry]:
        """Every known entry, without importing what it points to."""
        plugins = sorted(entry_points(group=f"vbench.{self.kind}s"), key=lambda point: point.name)
        found = dict(self._entries)
        for point in plugins:
            origin = point.dist.name if point.dist else "plugin"
            if point.name in found:
                raise BadInput(
                    f"{self.kind} '{point.name}' of {origin} is already provided by "
                    f"{found[point.name].origin}; uninstall one of them"
                )
            found[point.name] = Entry(point.name, point.value, f"plugin of {origin}", origin=origin)
        return list(found.values())

    def libraries(self) -> list[Entry]:
        """One entry for each library, named ``library:NAME``, without importing it."""
        return [replace(entry, name=f"{prefix}:NAME") for prefix, entry in self._libraries.items()]

    def entry(self, name: str) -> Entry:
        """The entry of a name; an unknown one is :class:`BadInput` with the nearest name."""
        for entry in self.entries():
            if entry.name == name:
                return entry
        prefix, colon, _ = name.partition(":")
        if colon and prefix in self._libraries:
            return replace(self._libraries[prefix], name=name)
        if colon:
            return Entry(name, name, "given by path", origin="path")
        raise unknown_name(self.kind, name, self.names())

    def by_path(self, name: str) -> bool:
        """Whether a name is that of a file or a module, whose code would run when the class is loaded."""
        return ":" in name and self.entry(name).origin == "path"

    def load(self, name: str) -> type:
        """Import and return the class behind a name, checked to be of the right kind."""
        entry = self.entry(name)
        if name not in self._classes:
            self._classes[name] = self._checked(entry)
        return self._classes[name]

    def describe(self, name: str) -> Entry:
        """The entry of a name; of a plugin with summary and paper read from the class itself."""
        cls = self.load(name)
        entry = self.entry(name)
        if entry.origin == "vbench":
            return entry
        return replace(
            entry, summary=getattr(cls, "summary", entry.summary), paper=getattr(cls, "paper", entry.paper)
        )

    def _checked(self, entry: Entry) -> type:
        cls = import_target(entry.target, self.kind)
        prefix, _, rest = entry.name.partition(":")
        if prefix in self._libraries:
            cls = cls(rest)
        base = import_target(self._base, self.kind)
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise BadInput(f"{self.kind} '{entry.name}': {entry.target} is not a subclass of {self._base}")
        return cls


def import_target(target: str, kind: str) -> Any:
    """Import ``package.module:attribute`` or ``path/to/file.py:attribute``.

    Raises :class:`BadInput` when the module, the file or the attribute is not there.
    """
    module_name, _, attribute = target.rpartition(":")
    if not module_name or not attribute:
        raise BadInput(f"{kind} '{target}': write package.module:Class or ./file.py:Class")
    module = (
        _import_file(Path(module_name), kind) if module_name.endswith(".py") else _import(module_name, kind)
    )
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise BadInput(f"{kind} '{target}': {module_name} has no '{attribute}'")
        found = getattr(found, part)
    return found


def _import(module_name: str, kind: str) -> Any:
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise BadInput(f"{kind} '{shortened(module_name)}': no name of a module, nor a .py file")
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise BadInput(f"{kind} '{module_name}': no such module; is it installed?") from error
        raise


def _import_file(path: Path, kind: str) -> Any:
    # A path that no system takes raises what it likes.
    if "\0" in str(path) or not path.is_file():
        raise BadInput(f"{kind}: no such file: {shortened(str(path))}")
    name = f"vbench_plugin_{path.stem}_{abs(hash(path.resolve()))}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise BadInput(f"{kind}: {path} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except Exception:
            del sys.modules[name]
            raise
    return sys.modules[name]


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


def _attacks() -> Iterator[Entry]:
    for name, row in ATTACKS.items():
        price = PRICES.get(name)
        columns = {"knowledge": price.knowledge, "cost": price.cost} if price else {}
        yield Entry(name, *row, facts=columns)


def _libraries() -> Iterator[Entry]:
    for name, (target, summary) in LIBRARIES.items():
        columns = {"knowledge": "classifier", "cost": "its settings say"}
        yield Entry(name, target, summary, traits="per-image", origin=name, facts=columns)


attacks = Registry("attack", "vbench.attacks.base:Attack", _attacks(), _libraries())
victims = Registry("victim", "vbench.victims.base:Victim", _victims())
#: vbench's own layouts have readers of their own; only sets from outside stand here.
datasets = Registry("dataset", "vbench.data.reader:DatasetReader", ())
