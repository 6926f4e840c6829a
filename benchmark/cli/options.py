"""The options of commands that run attacks, made from the fields of a run's description."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from vbench.records.spec import OPTIONS, Option, Request, request_of

C = TypeVar("C", bound=Callable[..., None])

Runs = Annotated[Path, typer.Option(help="Folder of run records.")]
Force = Annotated[bool, typer.Option(help="Run again even if the record exists, and decode images again.")]
Chance = Annotated[bool, typer.Option("--chance", help="Also the row of a random order of the gallery.")]
Quiet = Annotated[bool, typer.Option(help="Show no progress.")]


def takes(*names: str, several: Collection[str] = (), **changed: Mapping[str, Any]) -> Callable[[C], C]:
    """Decorator: gives a command the :data:`OPTIONS` named, whose values it takes as ``**given``.

    Those in ``several`` may be repeated, and their values are lists. ``changed``: attributes of an option
    that differ for this command.
    """

    def declare(command: C) -> C:
        own = inspect.signature(command, eval_str=True).parameters.values()
        options = [
            *(
                _parameter(name, replace(OPTIONS[name], **changed.get(name, {})), name in several)
                for name in names
            ),
            # Keywords, so that those without a default need not come first.
            *(one.replace(kind=one.KEYWORD_ONLY) for one in own if one.kind is not one.VAR_KEYWORD),
        ]
        # A documented attribute that type stubs do not have.
        command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        command.__annotations__ = {option.name: option.annotation for option in options}
        return command

    return declare


def _parameter(name: str, option: Option, several: bool) -> inspect.Parameter:
    default, kind = option.default, list[option.kind] if several else option.kind  # type: ignore[name-defined]
    if default is ...:
        default = inspect.Parameter.empty
    elif several or default is None or option.shown or option.read:
        default, kind = None, kind | None
    flags = [option.flags] if option.flags else []
    declared = typer.Option(*flags, help=option.help, show_default=option.shown or True)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, declared]
    )


def checked_request(given: Mapping[str, Any]) -> Request:
    """The request of the values of options; raises :class:`BadInput` for an unknown name or invalid value."""
    from vbench.attacks.registry import attacks
    from vbench.victims.registry import victims

    # Refuse unknown names before torch is imported, which takes seconds.
    for registry, names in ((victims, ("victim", "surrogate")), (attacks, ("attack",))):
        for text in (text for name in names for text in given[name] or ()):
            registry.check_name(text)
    request = request_of(given)
    request.check_threat()
    return request
