"""The options of a victim class: the keyword arguments of its constructor."""

from __future__ import annotations

import inspect

#: The generator of starting weights is not part of what a victim is.
_NOT_OPTIONS = ("self", "generator")


def option_names(victim_class: type) -> list[str]:
    """Names of the constructor's options, in order."""
    parameters = inspect.signature(victim_class.__init__).parameters.values()
    named = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return [name for name in named if name not in _NOT_OPTIONS]


def default_options(victim_class: type) -> dict[str, object]:
    """Default of every option that has one."""
    parameters = inspect.signature(victim_class.__init__).parameters
    defaults = {name: parameters[name].default for name in option_names(victim_class)}
    return {name: value for name, value in defaults.items() if value is not inspect.Parameter.empty}


def accepts_generator(victim_class: type) -> bool:
    """Whether the constructor takes the generator of its starting weights."""
    return "generator" in inspect.signature(victim_class.__init__).parameters
