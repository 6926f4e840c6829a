"""Code that is not vbench's own: which files are whose, and where in a plugin an error arose."""

from __future__ import annotations

import inspect
import sys
import sysconfig
import traceback
from functools import cache
from pathlib import Path

from vbench.errors import shortened


def plugin_line(error: BaseException, plugin: object = None) -> str:
    """Where in a plugin's own code an error arose, and what it is: "mine.py, line 12: ValueError: too few".

    The line is that of the innermost frame in the plugin's files. ``plugin`` is the file, the class or an
    object of it; it matters for one that is installed. Other installed code, Python's and vbench's own are
    passed over; without a frame in the plugin the error is named alone.
    """
    file = plugin if isinstance(plugin, str | Path) else file_of(plugin)
    package = top_of(Path(file)) if file else None
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{shown(error.filename)}, line {error.lineno}: {error.msg}"
    what = f"{type(error).__name__}: {_text(error)}".rstrip(": ")
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        name = frame.f_code.co_filename
        if not is_others(name) or (package is not None and inside(name, package)):
            return f"{shown(name)}, line {line}: {what}"
    return what


def file_of(plugin: object) -> str | None:
    """The file that the class of an object, or a class itself, is defined in; None for none, or no plugin."""
    try:
        return inspect.getfile(plugin if inspect.isclass(plugin) else type(plugin))
    except (TypeError, OSError):
        return None


def is_others(file: str) -> bool:
    """Whether a file is Python's, an installed distribution's or vbench's own: not somebody's loose file."""
    if file.startswith("<"):  # a notebook's cell or a prompt, unless it is Python's
        return file.startswith("<frozen")
    parts = Path(file).parts
    return (
        "site-packages" in parts
        or "dist-packages" in parts
        or any(inside(file, folder) for folder in (*_python(), *own_folders()))
    )


@cache
def own_folders() -> tuple[Path, ...]:
    """The folders of vbench's own code."""
    names = ("vbench", "vbench.attacks", "vbench.victims", "vbench.reports")
    found = [sys.modules.get(name) or __import__(name, fromlist=["_"]) for name in names]
    return tuple(Path(module.__file__).resolve().parent for module in found)


@cache
def _python() -> tuple[Path, ...]:
    return tuple({Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")})


def top_of(file: Path) -> Path:
    """The folder of the outermost package that a file is in; the file itself where it is in none."""
    found = file.resolve()
    while (found.parent / "__init__.py").is_file():
        found = found.parent
    return found


def inside(file: str | Path, top: Path) -> bool:
    """Whether a file is ``top`` or somewhere in it."""
    try:
        return Path(file).resolve().is_relative_to(top)
    except (OSError, ValueError):
        return False


def shown(file: str) -> str:
    """A file as a message names it: from the current folder on where it is in it."""
    path = Path(file)
    return shortened(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def _text(error: BaseException) -> str:
    try:
        return shortened(str(error))
    except Exception:  # a plugin's error may have a __str__ that fails itself
        return ""
