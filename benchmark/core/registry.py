"""Map names to classes: built-ins, installed plugins, and classes given by path, imported on use."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import isabstract
from pathlib import Path
from pkgutil import walk_packages
from types import MappingProxyType, ModuleType
from typing import Any, ClassVar, Generic, TypeVar

from vbench.core.errors import BadInput, VbenchError, shortened, unknown_name
from vbench.core.plugin_files import import_file
from vbench.core.plugin_modules import classes_in, problem_of, spec_of
from vbench.core.plugins import class_problem, is_own_class, name_problem, place_of, plugin_line
from vbench.core.settings import parse
from vbench.core.source import code_card
from vbench.core.types import Named

T = TypeVar("T", bound=Named)


@dataclass(frozen=True)
class Entry:
    """One row of a registry: ``target`` is "module:attribute", ``origin`` the distribution that provides it.

    ``facts`` are further columns of a listing, empty for plugins, which are not imported for it.
    ``problem`` says why the name cannot be used, empty if it can.
    """

    name: str
    target: str
    summary: str
    paper: str = ""
    traits: str = ""
    origin: str = "vbench"
    facts: dict[str, str] = field(default_factory=dict)
    problem: str = ""


class Registry(Generic[T]):
    """Classes of one kind by name.

    A name is looked up among the built-ins and those added with :meth:`register`, then among the entry
    points of installed distributions (group ``vbench.<kind>s``). ``library:Name`` is the class that the entry
    of that library in ``libraries`` makes for ``Name``. ``package.module:Class`` and ``./file.py:Class`` name
    a class directly. ``words`` are reserved: they mean something else where a name is expected. ``files``:
    ending of a file's name -> "module:function", which makes its class, and origin ("path" if it is code).

    Upper and lower case, dashes and underscores make no difference: ``FSAM-UAP`` is ``fsam_uap``. ``aliases``
    are further names in lower case without either; ``offers`` lists what the libraries installed here have,
    for hints.
    """

    _all: ClassVar[list[Registry[Any]]] = []

    def __init__(
        self,
        kind: str,
        base: str,
        builtins: Iterable[Entry],
        libraries: Iterable[Entry] = (),
        words: Iterable[str] = (),
        files: Mapping[str, tuple[str, str]] = MappingProxyType({}),
        aliases: Mapping[str, str] | None = None,
        offers: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.kind = kind
        self._aliases, self._offers = aliases or {}, offers
        Registry._all.append(self)
        self._base = base
        self._libraries = {entry.name: entry for entry in libraries}
        self._entries = {entry.name: entry for entry in builtins}
        self._words = tuple(words)
        self._files = dict(files)
        self._classes: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator that adds ``name``, which must equal the class's ``name``.

        Raises :class:`BadInput` for a name that is taken or looks like one of vbench's, and for a class that
        :meth:`check` refuses.
        """

        def add(cls: type[T]) -> type[T]:
            if name in self.names():
                raise BadInput(f"{self.kind} '{name}' is registered already ({self.entry(name).target})")
            self.check(cls, name, name)
            if cls.name != name and not is_own_class(cls):
                raise self._other_name(f"'{name}' ({place_of(cls)})", cls)
            summary = getattr(cls, "summary", "") or (cls.__doc__ or "").split("\n")[0]
            target = f"{cls.__module__}:{cls.__qualname__}"
            self._entries[name] = Entry(
                name, target, summary, getattr(cls, "paper", ""), origin=cls.__module__
            )
            self._classes[name] = cls
            return cls

        return add

    def names(self) -> list[str]:
        """Every usable name: built-ins in the order they were given, then plugins by name."""
        return [entry.name for entry in self.entries() if not entry.problem]

    def entries(self) -> list[Entry]:
        """Every known entry, including unusable ones, without importing what they point to."""
        found = list(self._entries.values())
        origins = {entry.name: entry.origin for entry in found}
        for point in _installed(f"vbench.{self.kind}s"):
            origin = point.dist.name if point.dist else "plugin"
            other = origins.get(point.name)
            problem = f"is already provided by {other}; uninstall one of them" if other else ""
            summary = f"plugin of {origin}"
            found.append(Entry(point.name, point.value, summary, origin=origin, problem=problem))
            origins.setdefault(point.name, origin)
        return found

    def listed(self) -> list[Entry]:
        """Every entry, with the problems found by parsing plugins' files; nothing is imported."""
        known = self._entries.keys()
        return [
            entry
            if entry.problem or (entry.name in known and entry.origin == self._entries[entry.name].origin)
            else replace(entry, problem=problem_of(entry.target))
            for entry in self.entries()
        ]

    def libraries(self) -> list[Entry]:
        """One entry for each library, named ``library:NAME``, without importing it."""
        return [replace(entry, name=f"{prefix}:NAME") for prefix, entry in self._libraries.items()]

    def entry(self, name: str) -> Entry:
        """The entry of a name.

        Raises :class:`BadInput` for an unknown name, suggesting the nearest, and for one with two providers.
        """
        name, _, _ = self.canonical(name).partition("[")
        found = [entry for entry in self.entries() if entry.name == name]
        for entry in found:
            if entry.problem:
                raise BadInput(f"{self.kind} '{name}' of {entry.origin} {entry.problem}")
        if found:
            return found[0]
        if self.is_file(name):
            target, origin = self._files[Path(name).suffix]
            return Entry(name, target, "a model file", origin=origin)
        prefix, colon, _ = name.partition(":")
        if colon and prefix in self._libraries:
            return replace(self._libraries[prefix], name=name)
        if colon:
            return Entry(name, name, "given by path", origin="path")
        raise self.unknown(name)

    def canonical(self, text: str) -> str:
        """``FSAM-UAP[eps=1]`` as ``fsam_uap[eps=1]``; a text that names nothing known stays as it is."""
        name, bracket, settings = text.partition("[")
        names = [entry.name for entry in self.entries()]
        if name in names or ":" in name:
            return text
        folded = _folded(name)
        same = {one for one in names if _folded(one) == folded} or {self._aliases.get(folded, name)}
        return f"{same.pop()}{bracket}{settings}" if len(same) == 1 else text

    def unknown(self, name: str, *more: str) -> BadInput:
        """The error for a name that is not known; ``more``: names that stand for something here."""
        if name.endswith(".py"):
            there = classes_in(Path(name), self._base.rpartition(":")[2])
            whole = " or ".join(f"{name}:{one}" for one in there or ("ClassName",))
            return BadInput(
                f"{self.kind} '{shortened(name)}' names a file; name its class too: {shortened(whole)}"
            )
        for other in Registry._all:
            if other.kind != self.kind and other.canonical(name) in other.names():
                a, own = ("an" if kind[0] in "aeiou" else "a" for kind in (other.kind, self.kind))
                known = ", ".join(sorted((*more, *self.names())))
                kinds = f"{a} {other.kind}, not {own} {self.kind}"
                return BadInput(f"'{shortened(name)}' is {kinds}; known {self.kind}s: {known}")
        offered = [one for one in self._offers() if _folded(one.partition(":")[2]) == _folded(name)]
        return unknown_name(self.kind, name, (*more, *self.names()), offered)

    def check_name(self, text: str) -> None:
        """Raise :class:`BadInput` for ``name[a=1]`` if the name is unknown; no class is imported."""
        name, _ = parse(text, self.kind)
        if name not in self._words:
            self.entry(name)

    def is_file(self, name: str) -> bool:
        """Whether a name is that of a model file."""
        return Path(name).suffix in self._files

    def by_path(self, name: str) -> bool:
        """Whether a name gives a file or a module, whose code runs when it is used."""
        return (":" in name or self.is_file(name)) and self.entry(name).origin == "path"

    def load(self, name: str) -> type[T]:
        """Import and return the class of a name; raises as :meth:`entry`, :meth:`check`, import_target do."""
        if "[" in name:
            raise BadInput(f"{self.kind} '{shortened(name)}': give settings by name, not in brackets, here")
        entry = self.entry(name)
        if self.is_file(name):
            return import_target(entry.target, self.kind)(name)
        if ".py:" in name:  # the file may have changed
            return self._checked(entry)
        if name not in self._classes:
            self._classes[name] = self._checked(entry)
        return self._classes[name]

    def check(self, cls: type, given: str, name: object) -> None:
        """Raise :class:`BadInput` for a class that is not of this kind, is incomplete or has a taken name.

        ``given`` is what the user wrote to name it, ``name`` the name in records. vbench's own classes must
        keep their names; others need a different one, made of characters that can be typed everywhere.
        """
        base = import_target(self._base, self.kind)
        where = f"{self.kind} '{shortened(given)}'"
        if not isinstance(cls, type):
            raise BadInput(f"{where} is a {type(cls).__name__}, not a class; name the class")
        if not issubclass(cls, base):
            raise BadInput(f"{where}: {cls.__module__}:{cls.__qualname__} is not a subclass of {self._base}")
        if is_own_class(cls):
            if name not in (given, getattr(cls, "name", name)):
                raise BadInput(
                    f"{where}: '{shortened(str(name))}' is not the name of vbench's {cls.__qualname__}"
                )
            return
        problem = class_problem(cls, base) or name_problem(name, self.kind, self._reserved())
        if problem:
            raise BadInput(f"{where} ({place_of(cls)}): {problem}")

    def _other_name(self, what: str, cls: type[T]) -> BadInput:
        return BadInput(
            f"{self.kind} {what}: its class {cls.__qualname__} is called '{shortened(cls.name)}'; "
            "give both one name"
        )

    def _reserved(self) -> list[str]:
        own = [entry.name for entry in self._entries.values() if entry.origin == "vbench"]
        return [*own, *self._libraries, *self._words]

    def describe(self, name: str) -> Entry:
        """The entry of a name; for a plugin, summary and paper are read from its class."""
        cls = self.load(name)
        entry = self.entry(name)
        if entry.origin == "vbench":
            return entry
        return replace(
            entry, summary=getattr(cls, "summary", entry.summary), paper=getattr(cls, "paper", entry.paper)
        )

    def _checked(self, entry: Entry) -> type[T]:
        cls = import_target(entry.target, self.kind)
        prefix, _, rest = entry.name.partition(":")
        if prefix in self._libraries:
            return cls(rest)
        self.check(cls, entry.name, getattr(cls, "name", None))
        if entry.origin not in ("vbench", "path") and cls.name != entry.name:
            raise self._other_name(f"'{entry.name}' of {entry.origin}", cls)
        if not is_own_class(cls):
            code_card(cls)  # raises if its files changed after the import
        return cls


def _folded(name: str) -> str:
    return re.sub("[-_ ]", "", name).lower()


def _installed(group: str) -> list[EntryPoint]:
    """The entry points of a group by name."""
    return _entry_points(group, tuple((folder, _changed(folder)) for folder in sys.path))


def _changed(folder: str) -> int:
    try:
        return Path(folder).stat().st_mtime_ns
    except (OSError, ValueError):
        return 0


@lru_cache
def _entry_points(group: str, path: tuple[tuple[str, int], ...]) -> list[EntryPoint]:
    # Looked up once for what is on the path, since the metadata of every distribution is read for it.
    return sorted(entry_points(group=group), key=lambda point: point.name)


def import_target(target: str, kind: str) -> Any:
    """Import ``package.module:attribute`` or ``path/to/file.py:attribute``.

    Raises :class:`BadInput` if the module, the file or the attribute is missing, and for whatever the code
    raises while it is imported, with its file and line.
    """
    module_name, _, attribute = target.rpartition(":")
    if not module_name or not attribute:
        raise BadInput(f"{kind} '{target}': write package.module:Class or ./file.py:Class")
    with _importing(f"{kind} '{shortened(target)}'", module_name):
        found: Any = (
            _import_file(Path(module_name), kind)
            if module_name.endswith(".py")
            else _import(module_name, kind)
        )
        for part in attribute.split("."):
            if not hasattr(found, part):
                raise BadInput(f"{kind} '{target}': {module_name} has no '{attribute}'")
            found = getattr(found, part)
    return found


@contextmanager
def _importing(what: str, module_name: str) -> Iterator[None]:
    """Turn whatever code raises while it is imported, but KeyboardInterrupt, into a :class:`BadInput`."""
    try:
        yield
    except (VbenchError, KeyboardInterrupt):
        raise
    except BaseException as error:
        file = module_name if module_name.endswith(".py") else getattr(spec_of(module_name), "origin", None)
        raise BadInput(f"{what}: {plugin_line(error, file)}; {_remedy(error)}") from error


def _remedy(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return "install what it needs, or put the module into the file's folder"
    if isinstance(error, SyntaxError):
        return "fix that line"
    if isinstance(error, SystemExit):
        return "it ends Python while it is imported: put that under if __name__ == '__main__'"
    if isinstance(error, TypeError) and "non-frozen" in str(error):
        return "an attack is a @dataclass(frozen=True)"
    return "--debug shows the traceback"


def _import(module_name: str, kind: str) -> Any:
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise BadInput(f"{kind} '{shortened(module_name)}': not the name of a module or a .py file")
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise BadInput(f"{kind} '{module_name}': no such module; is it installed?") from error
        raise


def _import_file(path: Path, kind: str) -> Any:
    # is_file() raises for a path with a null character.
    if "\0" in str(path) or not path.is_file():
        raise BadInput(f"{kind}: no such file: {shortened(str(path))}")
    return import_file(path)


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
