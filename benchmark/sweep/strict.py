"""Models that refuse keys they do not know, and complaints that know where in the file they belong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from vbench.errors import VbenchError, unknown_name

T = TypeVar("T")


def complaint(reason: object, *place: str | int) -> PydanticCustomError:
    """What a validator raises; ``place`` goes on from where the validator stands."""
    return PydanticCustomError("vbench", "{reason}", {"reason": str(reason), "place": place})


def told(call: Callable[..., T], *arguments: Any, place: Sequence[str | int] = ()) -> T:
    """Call, inside a validator, what refuses with a :class:`VbenchError`."""
    try:
        return call(*arguments)
    except VbenchError as error:
        raise complaint(error, *place) from error


def one_of(kind: str, known: Iterable[str]) -> Callable[[Any], str]:
    """A validator that takes one of a few words, with the nearest one as a hint."""
    words = tuple(known)

    def check(value: Any) -> str:
        if value not in words:
            raise complaint(unknown_name(kind, str(value), words))
        return value

    return check


def as_list(value: Any) -> Any:
    """One value where a list is meant stands for a list of it; an empty list is refused."""
    listed = value if isinstance(value, list | tuple) else [value]
    if not listed:
        raise complaint("an empty list; leave the key out or name something")
    return listed


class Strict(BaseModel):
    """A mapping of known keys. ``SHORT`` is the key that a single word stands for, if any."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        short = getattr(cls, "SHORT", None)
        if short and isinstance(value, str):
            return {short: value}
        if isinstance(value, dict):
            for key in value:
                if key not in cls.model_fields:
                    raise complaint(unknown_name("key", key, cls.model_fields), key)
        return value
