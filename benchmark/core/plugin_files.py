"""Import a plugin's file and the modules in its folder, without changing ``sys.path``.

Each folder becomes a package with a unique name. In its files ``import helper`` means the ``helper.py`` in
that folder, as if Python ran the file, so two plugins may each have a ``helper``. File contents are kept in
memory, so that the code that runs is the code that :mod:`vbench.core.source` hashes, even if files change.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import itertools
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from vbench.core.plugins import unchanged

_PREFIX = "vbench_plugin_"
_count = itertools.count()


class _Folder:
    """One import of a plugin's folder; after a file has changed, the next import makes a new one."""

    def __init__(self, folder: Path) -> None:
        mark = hashlib.sha256(str(folder).encode("utf-8", "surrogateescape")).hexdigest()[:8]
        self.path = folder
        self.package = f"{_PREFIX}{mark}_{next(_count)}"
        self._read: dict[str, bytes] = {}
        package = ModuleType(self.package)
        package.__path__ = [str(folder)]
        sys.modules[self.package] = package

    def source(self, file: str) -> bytes:
        """The bytes of a file as they were at the first call."""
        if file not in self._read:
            self._read[file] = Path(file).read_bytes()
        return self._read[file]

    def is_current(self) -> bool:
        """Whether no file that was read has changed since."""
        try:
            return all(Path(file).read_bytes() == held for file, held in self._read.items())
        except OSError:
            return False

    def name_of(self, name: str) -> str:
        """The name to import for ``import name`` in this folder: in its package, or ``name`` unchanged."""
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top == "vbench":
            return name
        local = PathFinder.find_spec(top, [str(self.path)])
        # A folder without an __init__.py is used only if no installed module has its name.
        if local is None or (local.loader is None and importlib.util.find_spec(top) is not None):
            return name
        return f"{self.package}.{name}"


_current: dict[Path, _Folder] = {}
_all: dict[str, _Folder] = {}


def import_file(path: Path) -> ModuleType:
    """Import a file; it runs again only if it, or what it imported from its folder, has changed since.

    Raises whatever the file raises; its module is then removed from ``sys.modules``.
    """
    path = path.resolve()
    place = _current.get(path.parent)
    if place is None or not unchanged(str(path.parent), place.is_current):
        place = _current[path.parent] = _Folder(path.parent)
        _all[place.package] = place
        unchanged(str(path.parent), place.is_current)
    name = f"{place.package}.{path.stem.replace('.', '_')}"
    if name not in sys.modules:
        loader = _Loader(name, str(path))
        spec = importlib.util.spec_from_file_location(name, path, loader=loader)
        assert spec is not None, "with a loader there is one for any file"
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            loader.exec_module(module)
        except BaseException:
            # The next import starts anew; modules that other files of the folder imported stay in use.
            del sys.modules[name]
            _current.pop(path.parent, None)
            raise
    return sys.modules[name]


def folder_of(module_name: str) -> _Folder | None:
    """The folder that a module was imported from by :func:`import_file`; None for other modules."""
    return _all.get(module_name.partition(".")[0])


class _Finder:
    """Finds the modules of plugin folders, for the import statement."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if folder_of(name) is None or path is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.loader.path)
        return spec


sys.meta_path.insert(0, _Finder)


class _Loader(SourceFileLoader):
    """Loads a file of a plugin folder from the bytes that were read first; writes no bytecode."""

    def get_code(self, name: str) -> CodeType:
        folder = _all[name.partition(".")[0]]
        tree = ast.parse(folder.source(self.path), self.path)
        return compile(with_local_imports(tree, folder), self.path, "exec", dont_inherit=True)


def with_local_imports(tree: ast.Module, folder: _Folder) -> ast.Module:
    """The same code, its imports of modules in the plugin's folder replaced by their full names."""
    return ast.fix_missing_locations(_LocalImports(folder).visit(tree))


class _LocalImports(ast.NodeTransformer):
    def __init__(self, folder: _Folder) -> None:
        self._name_of = folder.name_of

    def visit_Import(self, node: ast.Import) -> list[ast.Import]:
        found = []
        for alias in node.names:
            top, full = alias.name.partition(".")[0], self._name_of(alias.name)
            if full == alias.name:
                names = [alias]
            elif alias.asname or alias.name == top:
                names = [ast.alias(full, alias.asname or top)]
            else:
                # "import a.b" loads a.b and binds a.
                names = [ast.alias(full, top), ast.alias(self._name_of(top), top)]
            found += [ast.copy_location(ast.Import([one]), node) for one in names]
        return found

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        if node.module and not node.level:
            node.module = self._name_of(node.module)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = imported_by_call(node)
        if name is not None and not name.startswith("."):
            node.args[0] = ast.copy_location(ast.Constant(self._name_of(name)), node.args[0])
        return self.generic_visit(node)


def imported_by_call(node: ast.Call) -> str | None:
    """The name in ``importlib.import_module("name")``; None for any other call."""
    called = getattr(node.func, "attr", getattr(node.func, "id", ""))
    first = node.args[0] if called == "import_module" and node.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
