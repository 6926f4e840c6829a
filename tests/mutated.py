"""One line of vbench replaced while a block runs: what a test, or a gate, must not let pass."""

from __future__ import annotations
import __future__

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType


@contextmanager
def mutated(where: Callable, old: str, new: str) -> Iterator[None]:
    """Inside the block ``old``, which stands once in the source of ``where``, is ``new``.

    Wherever the function was imported to; it may close over nothing.
    """
    function = inspect.unwrap(where)
    before = function.__code__
    function.__code__ = _changed(function, old, new)
    try:
        yield
    finally:
        function.__code__ = before


def _changed(function: FunctionType, old: str, new: str):
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, f"{function.__qualname__} has no such line any more: {old}"
    flags = __future__.annotations.compiler_flag
    code = compile(source.replace(old, new), function.__code__.co_filename, "exec", flags)
    made = dict(function.__globals__)
    exec(code, made)
    return inspect.unwrap(made[function.__name__]).__code__
