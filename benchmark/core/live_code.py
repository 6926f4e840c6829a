"""Describe code that is in no file: from a notebook, from ``exec``, or attached to a class or an object."""

from __future__ import annotations

import dis
import enum
import hashlib
import sys
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property, lru_cache, partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from vbench.core.plugins import is_others, is_own_class, of_vbench

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))
_WRAPPERS = (FunctionType, MethodType, BuiltinFunctionType, staticmethod, classmethod, property)
#: Attributes set while an object is made do not count as changed by its code.
_MAKERS = ("__init__", "__new__", "__post_init__", "__setstate__")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class LiveCode:
    """Describes code as JSON-able values, to be hashed; None or an empty list where nothing matters.

    ``files``: files whose text is hashed already. For a function in one of them only the values it closes
    over and its defaults are described; for any other function also its bytecode, constants and the names
    it uses. Values are included if they are plain (numbers, text, tuples) and the code does not change them
    itself. vbench's own code is left out; from installed packages only names are included.
    """

    def __init__(self, files: Collection[str]) -> None:
        self._files = files
        self._seen: dict[int, object] = {}

    def of_class(self, cls: type) -> list[Any]:
        """Code and constants of a class and its bases; of vbench's own classes, only code added to them."""
        bases = [one for one in cls.__mro__ if not self._is_others(one)]
        return _non_empty([one.__qualname__, self._members(one)] for one in bases)

    def of_object(self, thing: object) -> list[Any]:
        """What was added to an object or its submodules: functions, hooks, submodules of plugin classes."""
        named = thing.named_modules() if hasattr(thing, "named_modules") else [("", thing)]
        found = []
        for place, one in named:
            if place and not is_own_class(type(one)) and not self._is_others(type(one)):
                found.append([place, self.value(type(one))])
            for name, value in sorted(getattr(one, "__dict__", {}).items()):
                values = list(value.values()) if name in _HOOKS else [value] if _is_code(value) else []
                found += [[f"{place}.{name}", self.value(each)] for each in values]
        return _non_empty(found)

    def value(self, value: object) -> Any:
        """The description of one value; None for code that was described before."""
        if isinstance(value, enum.Enum):
            return str(value)
        if isinstance(value, _PLAIN):
            return repr(value)
        if isinstance(value, tuple):
            return [self.value(one) for one in value]
        if isinstance(value, frozenset):
            return sorted(repr(self.value(one)) for one in value)
        if id(value) in self._seen:
            return None
        self._seen[id(value)] = value
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        parts = list(_parts(value))
        if parts:
            return _non_empty([self.value(one)] for one in parts)
        if isinstance(value, BuiltinFunctionType):
            return value.__qualname__
        return self.value(type(value)) if callable(value) else None

    def _class(self, cls: type) -> Any:
        if is_own_class(cls):
            return None
        return cls.__qualname__ if self._is_others(cls) else [cls.__qualname__, self.of_class(cls)]

    def _members(self, cls: type) -> list[Any]:
        own = is_own_class(cls)
        changed = set().union(*map(assigned_by, map(_function_in, vars(cls).values())))
        kept = {
            name: value
            for name, value in sorted(vars(cls).items())
            if (_is_code(value) and not _is_generated(cls, name, value))
            or (isinstance(value, (*_PLAIN, tuple)) and not own and not name.startswith("__"))
        }
        return _non_empty([name, self.value(value)] for name, value in kept.items() if name not in changed)

    def _function(self, function: FunctionType) -> Any:
        code = function.__code__
        closed = dict(zip(code.co_freevars, map(_cell_value, function.__closure__ or ()), strict=True))
        if code.co_filename not in self._files and is_others(code.co_filename):
            # Perhaps a decorator of an installed package: describe the function it wraps if a plugin's.
            around = [one for one in closed.values() if _is_code(one)]
            foreign = [one for one in around if not is_others(_file(one)) or _file(one) in self._files]
            named = None if around or of_vbench(code.co_filename) else function.__qualname__
            return _non_empty([self.value(one)] for one in foreign) or named
        inside = _non_empty([self.value(one)] for one in closed.values() if _is_code(one))
        changed = assigned_by(function)
        plain = {name: value for name, value in closed.items() if name not in changed and not _is_code(value)}
        made_with = _non_empty([name, self.value(value)] for name, value in plain.items())
        made_with += _non_empty([self.value(one)] for one in function.__defaults__ or ())
        if code.co_filename in self._files:
            return [function.__qualname__, inside, made_with]
        return [_code_hash(code), inside, made_with, self._called(code, function.__globals__)]

    def _called(self, code: CodeType, names: dict[str, Any]) -> list[Any]:
        """The module-level names that code outside ``files`` uses; here lists and arrays count as well."""
        found = []
        for name in sorted(_names(code) & names.keys() - assigned_in(code)):
            value = names[name]
            if isinstance(value, ModuleType):
                file = getattr(value, "__file__", None)
                loose = file is not None and not is_others(file)
                found.append([name, self._called(code, vars(value)) if loose else value.__name__])
            else:
                found.append([name, _data(value) or self.value(value)])
        return _non_empty(found)

    def _is_others(self, cls: type) -> bool:
        """Whether a class is Python's or an installed package's, and not part of the plugin."""
        module = sys.modules.get(cls.__module__)
        file = getattr(module, "__file__", None)
        if cls.__module__.partition(".")[0] in sys.stdlib_module_names - {"__main__"}:
            return True
        return file is not None and file not in self._files and is_others(file) and not of_vbench(file)


def assigned_by(function: object) -> set[str]:
    """Names of attributes and of outer variables that a function sets when it is called."""
    if not isinstance(function, FunctionType) or function.__name__ in _MAKERS:
        return set()
    return set(assigned_in(function.__code__))


@lru_cache(maxsize=4096)
def assigned_in(code: CodeType) -> frozenset[str]:
    """Attributes, globals and outer variables that code sets, including its inner functions."""
    setting = ("STORE_ATTR", "STORE_DEREF", "STORE_GLOBAL")
    own = {one.argval for one in dis.get_instructions(code) if one.opname in setting}
    return frozenset(own.union(*map(assigned_in, _inner(code))))


def _inner(code: CodeType) -> Iterator[CodeType]:
    return (one for one in code.co_consts if isinstance(one, CodeType))


def _names(code: CodeType) -> set[str]:
    return set(code.co_names).union(*map(_names, _inner(code)))


def _code_hash(code: CodeType) -> str:
    """A hash over bytecode, constants and names; file and line numbers are left out."""
    constants = [_code_hash(one) if isinstance(one, CodeType) else _constant(one) for one in code.co_consts]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_flags, code.co_argcount)
    text = repr((code.co_code, constants, names, code.co_kwonlyargcount))
    return hashlib.sha256(text.encode()).hexdigest()


def _constant(value: object) -> str:
    # The order of a set of strings differs between Python processes.
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _data(value: object) -> Any:
    """Lists, mappings, arrays and tensors; None for anything else."""
    if isinstance(value, list | set | dict):
        return repr(sorted(map(repr, value.items()))) if isinstance(value, dict) else _constant_list(value)
    if hasattr(value, "detach") and not isinstance(value, type):
        value = value.detach().cpu().double().numpy()
    if hasattr(value, "tobytes") and hasattr(value, "dtype") and not isinstance(value, type):
        return [str(value.dtype), hashlib.sha256(value.tobytes()).hexdigest()]
    return None


def _constant_list(value: list[Any] | set[Any]) -> str:
    return repr(value) if isinstance(value, list) else repr(sorted(map(repr, value)))


def _is_code(value: object) -> bool:
    """Whether a value is code: a function, wrapped or not, or a callable other than a class or nn.Module."""
    if isinstance(value, (*_WRAPPERS, partial, cached_property)):
        return True
    return callable(value) and not isinstance(value, type) and not hasattr(value, "named_modules")


def _parts(value: object) -> Iterator[object]:
    """The functions inside a wrapper (method, property, partial), and a partial's arguments."""
    if isinstance(value, staticmethod | classmethod | MethodType):
        yield value.__func__
    elif isinstance(value, property):
        yield from (one for one in (value.fget, value.fset) if one is not None)
    elif isinstance(value, cached_property):
        yield value.func
    elif isinstance(value, partial):
        yield from (value.func, *value.args, *value.keywords.values())


def _function_in(value: object) -> object:
    return next(_parts(value), value)


def _file(value: object) -> str:
    """The file of a function, or of the one in a wrapper; empty for other callables."""
    return getattr(getattr(_function_in(value), "__code__", None), "co_filename", "")


def _is_generated(cls: type, name: str, value: object) -> bool:
    """Whether ``dataclass`` generated a method, which the fields determine."""
    made = _file(value) == "<string>" or is_others(_file(value))
    return made and name.startswith("__") and "__dataclass_fields__" in vars(cls)


def _cell_value(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not set yet
        return None


def _non_empty(pairs: Iterable[list[Any]]) -> list[Any]:
    """The pairs whose last item is not None or an empty list."""
    return [pair for pair in pairs if pair[-1] not in (None, [])]
