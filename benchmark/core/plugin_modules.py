"""The modules that a plugin consists of: those of its classes, and the plugin's own modules they import."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from vbench.core.errors import BadInput, shortened
from vbench.core.plugin_files import folder_of, imported_by_call
from vbench.core.plugins import inside, is_others, of_vbench, shown, unchanged


def problem_of(target: str) -> str:
    """What is wrong with "package.module:Class", found by parsing its file; empty for nothing."""
    name, _, attribute = target.rpartition(":")
    if not name or not attribute:
        return f"'{shortened(target)}' is not package.module:Class"
    spec = spec_of(name)
    if spec is None:
        return f"there is no module '{shortened(name)}'"
    file = spec.origin or ""
    if not file.endswith(".py"):  # built in, or compiled
        return ""
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, ValueError):
        return ""
    except SyntaxError as error:
        return f"{shown(file)}, line {error.lineno}: {error.msg}"
    for node in tree.body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
        for one in names:
            if spec_of(one.partition(".")[0]) is None:
                return f"{shown(file)}, line {node.lineno}: there is no module '{one}'"
    defined = {getattr(node, "name", None) or getattr(node, "id", None) for node in ast.walk(tree)}
    defined |= {getattr(node, "asname", None) for node in ast.walk(tree)}
    if attribute.partition(".")[0] not in defined and not defined & {"*", "__getattr__"}:
        return f"{shown(file)} has no '{shortened(attribute)}'"
    return ""


def classes_in(file: Path, base: str) -> list[str]:
    """The classes of a file derived from one whose name ends with ``base``; read from its text, not run."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    found = (node for node in tree.body if isinstance(node, ast.ClassDef))
    return [one.name for one in found if any(ast.unparse(part).endswith(base) for part in one.bases)]


@dataclass
class Modules:
    """The modules of a plugin.

    ``sources``: file -> (name of the module, its text). ``of_vbench``: (module, name) of what they import
    from vbench. ``overwritten``: module constants whose value differs from the one in the file -> ``repr``.
    """

    sources: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    of_vbench: set[tuple[str, str]] = field(default_factory=set)
    overwritten: dict[str, str] = field(default_factory=dict)


def modules_of(classes: Iterable[type]) -> Modules:
    """The modules of some classes and all that they import, directly or not, also inside functions.

    Left out are Python's modules, vbench's, and installed distributions other than the one that a class
    comes from. A class without a file (from a notebook or ``exec``) has none. Raises :class:`BadInput` for a
    file that changed after it was imported.
    """
    found = Modules()
    for cls in classes:
        module = module_of(cls)
        if module is not None and module.__file__:
            _collect(module.__name__, _Owner(module.__name__, module.__file__), found)
    return found


def module_of(cls: type) -> ModuleType | None:
    """The module whose file defines a class; None if none does, even if ``__module__`` names one."""
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if module is None or not file:
        return None
    functions = [one for one in vars(cls).values() if isinstance(one, FunctionType)]
    made_there = any(one.__code__.co_filename == file for one in functions)
    return module if made_there or _named(module, cls.__qualname__) is cls or _is_local(cls, file) else None


def _named(module: ModuleType, qualname: str) -> object:
    found: object = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _is_local(cls: type, file: str) -> bool:
    # A class made inside a function, without functions of its own: its __module__ is trusted unless vbench's.
    return "<locals>" in cls.__qualname__ and not of_vbench(file)


class _Owner:
    """Decides which modules belong to the same plugin as a class: same folder, package or distribution."""

    def __init__(self, name: str, file: str) -> None:
        self._folder = folder_of(name)
        self._top = name.partition(".")[0]
        self._distributions = _distributions(self._top, file)

    def owns(self, name: str, file: str) -> bool:
        top = name.partition(".")[0]
        if self._folder is not None and folder_of(name) is self._folder:
            return True
        if top in sys.stdlib_module_names and top != "__main__":
            return False
        if of_vbench(file):
            return False
        found = _distributions(top, file)
        if found or is_others(file):
            return top == self._top or bool(found & self._distributions)
        return True


def _distributions(top: str, file: str) -> frozenset[str]:
    """The installed distributions that a file belongs to, by the name of its outermost module."""
    names = _installed(tuple(sys.path)).get(top, ())
    return frozenset(name for name in names if _contains(name, file))


@lru_cache(maxsize=4)
def _installed(path: tuple[str, ...]) -> dict[str, list[str]]:
    try:
        return dict(packages_distributions())
    except Exception:  # a damaged distribution
        return {}


def _contains(name: str, file: str) -> bool:
    try:
        found: Distribution = distribution(name)
    except PackageNotFoundError:
        return False
    # An editable installation has its files elsewhere, and counts as loose files.
    return found.read_text("RECORD") is not None and inside(file, Path(str(found.locate_file(""))).resolve())


def _collect(name: str, owner: _Owner, found: Modules) -> None:
    waiting, met = [name], set()
    while waiting:
        one = waiting.pop()
        if one in met:
            continue
        met.add(one)
        spec = spec_of(one)
        file = None if spec is None else spec.origin
        if one.rpartition(".")[0]:
            waiting.append(one.rpartition(".")[0])
        if spec is None or not file or file in ("built-in", "frozen"):
            continue
        if one != name and not owner.owns(one, file):
            continue
        text = _text_of(one, file)
        folder = folder_of(one)
        short = one if folder is None else one.removeprefix(f"{folder.package}.")
        found.sources[file] = (short, text)
        for constant, value in _overwritten(sys.modules.get(one), text):
            found.overwritten[f"{short}.{constant}"] = value
        package = one if spec.submodule_search_locations is not None else one.rpartition(".")[0]
        for module, names in imports_of(text):
            full = _absolute(module, package)
            if full is None:
                continue
            full = full if folder is None or module.startswith(".") else folder.name_of(full)
            waiting += [full, *(f"{full}.{each}" for each in names)]
            if full.partition(".")[0] == "vbench":
                found.of_vbench |= {(full, each) for each in names}


def _absolute(module: str, package: str) -> str | None:
    if not module.startswith("."):
        return module
    try:
        return importlib.util.resolve_name(module, package)
    except (ImportError, ValueError):
        return None


@lru_cache(maxsize=256)
def imports_of(text: bytes) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """All imports in a module's text: (module, with leading dots if relative; names imported from it)."""
    try:
        return tuple(_imports(ast.parse(text)))
    except (SyntaxError, ValueError):  # an extension module, or a file that cannot run
        return ()


def _imports(tree: ast.Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), tuple(alias.name for alias in node.names)
        elif isinstance(node, ast.Call):
            name = imported_by_call(node)
            if name:
                yield name, ()


def spec_of(name: str) -> ModuleSpec | None:
    """The spec of a module, without importing anything; None if there is none."""
    module = sys.modules.get(name)
    if module is not None:
        return _spec_of_loaded(module)
    above, _, _ = name.rpartition(".")
    try:
        if not above:
            return importlib.util.find_spec(name)
        parent = spec_of(above)
        if parent is None or parent.submodule_search_locations is None:
            return None
        return PathFinder.find_spec(name, list(parent.submodule_search_locations))
    except (ImportError, ValueError):
        return None


def _spec_of_loaded(module: ModuleType) -> ModuleSpec:
    file, path = getattr(module, "__file__", None), getattr(module, "__path__", None)
    found = ModuleSpec(module.__name__, None, origin=file)
    found.submodule_search_locations = None if path is None else list(path)
    return found


#: Module -> (its spec, or the module itself, when its text was read; the text).
_texts: dict[str, tuple[object, bytes]] = {}


def _text_of(name: str, file: str) -> bytes:
    """The text of a module as it was imported, or would be now."""
    folder, module = folder_of(name), sys.modules.get(name)
    if folder is not None:
        return folder.source(file)
    if module is None:
        return _read(file, None)
    loaded = getattr(module, "__spec__", None) or module
    known = _texts.get(name)
    if known is None or known[0] is not loaded:
        known = (loaded, _read(file, module))
        fits = _matches(module, file, known[1])
    else:
        fits = unchanged(file, lambda: _read(file, module) == known[1])
    if not fits:
        raise BadInput(
            f"{shown(file)} has changed since it was imported, and the old code would run; "
            "start Python again, or importlib.reload it"
        )
    _texts[name] = known
    return known[1]


def _read(file: str, module: ModuleType | None) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        loader: Any = getattr(module, "__loader__", None)
        try:
            return loader.get_data(file)  # from an archive
        except (AttributeError, OSError):
            raise BadInput(f"{shown(file)}: the source of a plugin cannot be read ({error})") from error


def _matches(module: ModuleType, file: str, text: bytes) -> bool:
    """Whether a module's functions are those that its file defines now."""
    # Other loaders may change code while loading it, as pytest's does.
    if type(getattr(module, "__loader__", None)) is not SourceFileLoader or module.__name__ == "__main__":
        return True
    try:
        there = set(_code_objects(compile(text, file, "exec", dont_inherit=True)))
    except (SyntaxError, ValueError):
        return False
    return all(code in there for code in _live_code_objects(module, file))


def _overwritten(module: ModuleType | None, text: bytes) -> Iterator[tuple[str, str]]:
    """Name and ``repr`` of constants of a module whose value differs from the one in its text."""
    for name, value in _constants(text) if module is not None else ():
        live = getattr(module, name, value)
        if type(live) in (bool, int, float, str, tuple, type(None)) and repr(live) != repr(value):
            yield name, repr(live)


@lru_cache(maxsize=256)
def _constants(text: bytes) -> tuple[tuple[str, object], ...]:
    """Names that a module sets exactly once, at top level, to a literal; with the literals."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return ()
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and type(node.ctx) is ast.Store]
    moved = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    found = []
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if len(targets) == 1 and isinstance(targets[0], ast.Name) and value:
            name = targets[0].id
            if names.count(name) == 1 and name not in moved:
                try:
                    found.append((name, ast.literal_eval(value)))
                except ValueError:  # not a literal
                    continue
    return tuple(found)


def _code_objects(code: CodeType) -> Iterator[CodeType]:
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _code_objects(one)


def _live_code_objects(module: ModuleType, file: str) -> Iterator[CodeType]:
    for value in list(vars(module).values()):
        values = vars(value).values() if isinstance(value, type) else [value]
        for one in values:
            one = getattr(one, "__func__", one)
            if isinstance(one, FunctionType) and one.__code__.co_filename == file:
                yield one.__code__
