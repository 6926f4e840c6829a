"""The version of an attack's, a victim's or a reader's code, as part of a record id.

vbench's own classes declare a version number, raised when their behaviour changes. Plugins are identified by
a hash of their source. Not covered: files that code reads while it runs, and installed packages other than
the plugin's own.
"""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.metadata import version
from typing import Any

from vbench.core.live_code import LiveCode
from vbench.core.plugin_modules import Modules, modules_of
from vbench.core.plugins import is_own_class


def code_card(plugin: object) -> dict[str, Any]:
    """``{"version": N}`` for a class of vbench's own, ``{"source": 16 hexadecimal digits}`` for a plugin's.

    ``plugin`` is a class or an instance. The hash covers the class's module and every module that it imports,
    except Python's, vbench's and other installed packages'; without a file, the bytecode. Code that was added
    to an object (``victim.forward = f``, a hook) or to one of vbench's own classes adds a "source" to the
    version. The adapter of a library also names the library's version. Raises :class:`BadInput` for a file
    that changed after it was imported.
    """
    cls = plugin if isinstance(plugin, type) else type(plugin)
    own = is_own_class(cls)
    made_of = Modules() if own else modules_of(one for one in cls.__mro__ if _is_plugin(one))
    live = LiveCode(made_of.sources)
    described = live.of_class(cls) + ([] if plugin is cls else live.of_object(plugin))
    if not own:
        files = sorted((name, _hash(text)) for name, text in made_of.sources.values())
        builds_on = _versions(cls, made_of)
        return {"source": digest_of([cls.__qualname__, files, builds_on, made_of.overwritten, described])}
    card: dict[str, Any] = {"version": _number(cls)}
    if hasattr(cls, "library"):
        card["library"] = f"{cls.library} {version(cls.library)}"
    return {**card, "source": digest_of(described)} if described else card


def _is_plugin(base: type) -> bool:
    """Whether a base class is a plugin's: derived from a class of vbench's, and not one itself."""
    return not is_own_class(base) and any(map(is_own_class, base.__mro__))


def _number(cls: type) -> int:
    if "version" not in vars(cls):
        raise TypeError(f"{cls.__qualname__} of vbench declares no version")
    return vars(cls)["version"]


def _versions(cls: type, made_of: Modules) -> list[str]:
    """vbench's own classes that a plugin derives from or imports, with their version numbers."""
    imported = (getattr(sys.modules.get(module), name, None) for module, name in made_of.of_vbench)
    found = {one for one in (*cls.__mro__, *imported) if isinstance(one, type) and is_own_class(one)}
    return sorted(f"{one.__qualname__} {vars(one)['version']}" for one in found if "version" in vars(one))


def _hash(text: bytes) -> str:
    # Line ends differ between systems.
    return hashlib.sha256(text.replace(b"\r\n", b"\n")).hexdigest()


def digest_of(value: Any) -> str:
    """16 hexadecimal digits: a hash of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
