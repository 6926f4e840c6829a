"""Where a class is defined, whether it is vbench's own or a plugin's, and a plugin's errors in one line."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from weakref import WeakSet

from vbench.core.errors import BadInput, VbenchError, shortened

#: Packages whose lines do not show where an error in an attack or a victim must be fixed.
_NOT_PLUGINS = (
    frozenset({"vbench", "torch", "torchvision", "numpy", "typer", "click"}) | sys.stdlib_module_names
)

_blocks: list[object] = []

_seen_unchanged: set[str] = set()


@contextmanager
def one_version() -> Iterator[None]:
    """Inside the block a plugin's files are checked for changes once; later edits are ignored."""
    if not _blocks:
        _seen_unchanged.clear()
    _blocks.append(None)
    try:
        yield
    finally:
        _blocks.pop()


def unchanged(what: str, check: Callable[[], bool]) -> bool:
    """The result of ``check`` for a plugin's file ``what``; once True, kept within a :func:`one_version`."""
    if what in _seen_unchanged and _blocks:
        return True
    found = check()
    if found:
        _seen_unchanged.add(what)
    return found


def reason(error: BaseException) -> str:
    """An error of an attack or a victim in one line: a VbenchError's message, else file, line and error.

    The line is that of :func:`plugin_line`, else the innermost one outside :data:`_NOT_PLUGINS`.
    """
    if isinstance(error, VbenchError):
        return shortened(str(error), 500)
    place = plugin_place(error) or next(
        (
            f"{shown(frame.f_code.co_filename)}, line {line}"
            for frame, line in reversed(list(traceback.walk_tb(error.__traceback__)))
            if str(frame.f_globals.get("__name__")).partition(".")[0] not in _NOT_PLUGINS
        ),
        "",
    )
    return f"{place}: {_named(error)}" if place else _named(error)


def plugin_line(error: BaseException, plugin: object = None) -> str:
    """Where in a plugin's own code an error arose, and what it is: "mine.py, line 12: ValueError: too few".

    The line is that of the innermost frame in the plugin's files. ``plugin`` is its file, its class or an
    instance; it is needed for installed plugins, since frames in other installed code, Python's and vbench's
    own are skipped. Without a frame in the plugin only the error is named.
    """
    place = plugin_place(error, plugin)
    what = error.msg if isinstance(error, SyntaxError) and place else _named(error)
    return f"{place}: {what}" if place else what


def plugin_place(error: BaseException, plugin: object = None) -> str:
    """The file and line of :func:`plugin_line`; empty if no frame is in a plugin's code."""
    file = plugin if isinstance(plugin, str | Path) else file_of(plugin)
    package = top_of(Path(file)) if file else None
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{shown(error.filename)}, line {error.lineno}"
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        name = frame.f_code.co_filename
        if not is_others(name) or (package is not None and inside(name, package)):
            return f"{shown(name)}, line {line}"
    return ""


@contextmanager
def explained(what: str, plugin: object, kind: type[VbenchError] = BadInput) -> Iterator[None]:
    """Turn an exception of a plugin's code inside the block into ``kind``: ``what``, file and line, error.

    A :class:`VbenchError` passes through, and so does any exception of vbench's own classes.
    """
    try:
        yield
    except VbenchError:
        raise
    except (Exception, SystemExit) as error:
        cls = plugin if isinstance(plugin, type) else type(plugin)
        if is_own_class(cls):
            raise
        # A call with wrong arguments fails before any line of the plugin runs.
        place = "" if plugin_place(error, plugin) else f"{place_of(cls)}: "
        raise kind(f"{what}: {place}{plugin_line(error, plugin)}; --debug shows the traceback") from error


def file_of(plugin: object) -> str | None:
    """The file that defines a class, or the class of an object; None if there is no such file."""
    try:
        return inspect.getfile(plugin if inspect.isclass(plugin) else type(plugin))
    except (TypeError, OSError):
        return None


def place_of(cls: type) -> str:
    """File and line of a class, as far as they are known."""
    file = file_of(cls)
    try:
        return f"{shown(file or '?')}, line {inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):
        return shown(file) if file else f"class {cls.__qualname__}"


@lru_cache(maxsize=4096)
def is_others(file: str) -> bool:
    """Whether a file is Python's, an installed distribution's or vbench's own, not a user's loose file."""
    if not file or file.startswith("<"):  # a notebook's cell or a prompt, unless it is Python's
        return file.startswith("<frozen")
    parts = Path(file).parts
    return (
        "site-packages" in parts
        or "dist-packages" in parts
        or any(inside(file, folder) for folder in _python())
        or of_vbench(file)
    )


@cache
def own_folders() -> tuple[Path, ...]:
    """The folders of vbench's own code."""
    names = ("vbench", "vbench.attacks", "vbench.victims", "vbench.reports")
    found = [sys.modules.get(name) or __import__(name, fromlist=["_"]) for name in names]
    return tuple(Path(module.__file__).resolve().parent for module in found if module.__file__)


#: Classes that vbench creates at run time: the adapters of other libraries' attacks.
made_by_vbench: WeakSet[type] = WeakSet()


def is_own_class(cls: type) -> bool:
    """Whether a class is vbench's own: defined in one of vbench's files, and found there by its name."""
    if cls in made_by_vbench:
        return True
    module = sys.modules.get(cls.__module__)
    if not cls.__module__.startswith("vbench.") or not of_vbench(getattr(module, "__file__", None) or ""):
        return False
    found: object = module
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is cls


@lru_cache(maxsize=4096)
def of_vbench(file: str) -> bool:
    """Whether a file is one of vbench's own."""
    return bool(file) and any(inside(file, folder) for folder in own_folders())


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
    """A file as messages name it: relative to the working directory if it is inside."""
    path = Path(file)
    return shortened(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def _named(error: BaseException) -> str:
    try:
        message = shortened(" ".join(str(error).split()), 400)
        return f"{type(error).__name__}: {message}".rstrip(": ")
    except Exception:  # a plugin's error may have a __str__ that fails itself
        return type(error).__name__


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")

#: Characters that are dropped or treated as equal when names are compared.
_ALIKE = str.maketrans({"0": "o", "1": "l", "i": "l", "_": None, "-": None, ".": None})


def class_problem(cls: type, base: type) -> str:
    """What a subclass of ``base`` lacks and what to do about it; empty if it can be used."""
    missing = [name for name in dir(base) if getattr(getattr(cls, name, None), "__isabstractmethod__", False)]
    missing = sorted({*missing, *getattr(cls, "__abstractmethods__", ())})
    if missing:
        return f"{cls.__qualname__} lacks {', '.join(missing)}; write {'it' if len(missing) == 1 else 'them'}"
    if not isinstance(getattr(cls, "name", None), str):
        return f'{cls.__qualname__} has no name; write name = "..." in the class'
    if not dataclasses.is_dataclass(base):
        return ""
    loose = [name for name, value in vars(cls).items() if isinstance(value, dataclasses.Field)]
    if loose:
        return (
            f"'{loose[0]}' is not a setting yet; write @dataclass(frozen=True) above class {cls.__qualname__}"
        )
    if not isinstance(getattr(cls, "universal", None), bool):
        return f"derive {cls.__qualname__} from PerImageAttack, UniversalAttack or Battery"
    return ""


def name_problem(name: object, kind: str, own: Iterable[str]) -> str:
    """Why a plugin may not have a name, and what to do; empty if it may. ``own``: vbench's own names."""
    text = shortened(str(name))
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return f"the name '{text}' cannot be typed everywhere; use letters a-z, digits, '_', '-' and '.'"
    for taken in own:
        if _skeleton(name) == _skeleton(taken):
            looks = "is" if name == taken else f"looks like '{taken}', which is"
            return f"'{text}' {looks} vbench's own; give the {kind} another name"
    return ""


def _skeleton(name: str) -> str:
    return name.casefold().translate(_ALIKE)
