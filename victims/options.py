"""The options of a victim class: the keyword arguments of its constructor."""

from __future__ import annotations

import inspect
import typing
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from vbench.errors import BadInput, shortened

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


def missing_options(victim_class: type, given: dict[str, Any]) -> list[str]:
    """Options without a default that are not given."""
    defaults = default_options(victim_class)
    return [name for name in option_names(victim_class) if name not in defaults and name not in given]


def read_option(victim_class: type, name: str, value: Any, where: str) -> Any:
    """A value of an option as the type that its annotation says, or its default is of; else as it is.

    Raises BadInput that begins with ``where`` for a value of another type.
    """
    try:
        return _adapter(victim_class, name).validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise BadInput(f"{where}: {name}={shortened(repr(value), 60)}: {reason}") from error


def with_classes(victim_class: type, options: dict[str, Any], classes: int) -> dict[str, Any]:
    """The options of a victim that is trained on ``classes`` identities; BadInput for another number."""
    if options.get("num_classes", classes) != classes:
        raise BadInput(
            f"num_classes={options['num_classes']}: trained on {classes} identities; leave num_classes out"
        )
    takes = "num_classes" in option_names(victim_class)
    return {**options, "num_classes": classes} if takes else options


def _adapter(victim_class: type, name: str) -> TypeAdapter[Any]:
    default = default_options(victim_class).get(name)
    plain = type(default) if isinstance(default, bool | int | float | str) else Any
    plain = int if name == "num_classes" else plain
    try:
        return TypeAdapter(typing.get_type_hints(victim_class.__init__).get(name, plain))
    except (NameError, TypeError, AttributeError, PydanticUserError):
        # Annotations of others' code may name what is imported for a type checker alone.
        return TypeAdapter(plain)
