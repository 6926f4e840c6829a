"""Parse ``name[a=1,b=2]`` and sizes; check typed settings against dataclass fields."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from vbench.core.errors import BadInput, shortened, unknown_name
from vbench.core.plugins import explained
from vbench.core.threat import read_fraction


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter: name, type as text, default and one-line meaning."""

    name: str
    type: str
    default: Any
    meaning: str


def parameters(cls: type) -> list[Parameter]:
    """The parameters of a dataclass, in order; the meaning is the field's ``doc`` metadata."""
    return [
        Parameter(field.name, str(field.type), field.default, field.metadata.get("doc", ""))
        for field in dataclasses.fields(cls)
    ]


def constructor(cls: type) -> Callable[..., None]:
    """The ``__init__`` of a class, own or inherited, whose signature is to be inspected."""
    return cls.__init__  # type: ignore[misc]  # inspected, not called, so a subclass's may differ


def param(default: Any, doc: str) -> Any:
    """A dataclass field with a one-line meaning, shown by ``vbench describe``."""
    return dataclasses.field(default=default, metadata={"doc": doc})


def validate(instance: Any, owner: str) -> None:
    """Check and convert every field of a frozen dataclass by its annotation; raises :class:`BadInput`."""
    cls: type = type(instance)
    for name, adapter in _adapters(cls).items():
        value = getattr(instance, name)
        try:
            object.__setattr__(instance, name, adapter.validate_python(from_text(value)))
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise BadInput(f"{owner}: {name}={shortened(repr(value))}: {reason}") from error


def build(cls: type, owner: str, values: dict[str, Any]) -> Any:
    """Build a dataclass from names and values (texts are parsed); :class:`BadInput` for unknown names."""
    known = [field.name for field in dataclasses.fields(cls)]
    for name in values:
        if name not in known:
            raise unknown_name(f"parameter of {owner}", name, known)
    for field in dataclasses.fields(cls):
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and field.init and field.name not in values:
            raise BadInput(f"{owner} needs '{field.name}'; give it as in {owner}[{field.name}=...]")
    with explained(owner, cls):
        return cls(**values)


def read_settings(settings: list[str]) -> dict[str, str]:
    """Split ``name=value`` texts; raises BadInput for one without "="."""
    pairs = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise BadInput(f"setting '{shortened(setting)}' must look like steps=20")
        pairs[name.strip()] = value.strip()
    return pairs


def as_dict(instance: Any) -> dict[str, Any]:
    """The parameters of an instance as JSON-able values."""
    values = {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


@cache
def _adapters(cls: type) -> dict[str, TypeAdapter]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: TypeAdapter(hints[field.name]) for field in dataclasses.fields(cls)}


def from_text(value: Any) -> Any:
    """A setting's value from text: "none" and "auto" are None, "a,b" a tuple, "8/255" a float, else text."""
    if not isinstance(value, str):
        return value
    if value.lower() in ("none", "auto"):
        return None
    if "," in value:
        return tuple(part.strip() for part in value.split(",") if part.strip())
    try:
        return float(read_fraction(value)) if "/" in value else value
    except (ValueError, OverflowError):
        return value


def parse(spec: str, kind: str) -> tuple[str, dict[str, str]]:
    """Split ``name[a=1,b=2]`` into the name and its settings; commas inside a value are kept.

    >>> parse("fsam_uap[stages=stem,layer1,level=feature]", "attack")
    ('fsam_uap', {'stages': 'stem,layer1', 'level': 'feature'})
    """
    name, bracket, rest = spec.partition("[")
    if not bracket:
        return name, {}
    if not rest.endswith("]"):
        raise BadInput(f"{kind} '{shortened(spec)}': the settings in [...] are not closed")
    settings: list[str] = []
    for part in rest[:-1].split(","):
        if "=" in part or not settings:
            settings.append(part)
        elif part.strip():
            settings[-1] += f",{part}"
    return name, read_settings([setting for setting in settings if setting.strip()])


#: Largest height or width in pixels that a file may ask for in synthetic images.
LARGEST_SIDE = 4096


def parse_size(text: str) -> tuple[int, int]:
    """Turn "64x32" into (64, 32), height then width; :class:`BadInput` for anything else.

    >>> parse_size("64x32")
    (64, 32)
    """
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text.strip().lower())
    if match is None or not int(match[1]) or not int(match[2]):
        raise BadInput(f"size {shortened(repr(text))} is not HEIGHTxWIDTH in pixels, such as 64x32")
    return int(match[1]), int(match[2])
