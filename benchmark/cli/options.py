"""The options of commands that run attacks, made from the fields of a run's description."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from vbench.attacks.registry import attacks
from vbench.core.registry import Registry
from vbench.records.spec import OPTIONS, Option, Request, request_of
from vbench.reports.table import check_format
from vbench.victims.registry import victims

C = TypeVar("C", bound=Callable[..., None])

Runs = Annotated[Path, typer.Option(help="Folder of run records.")]
Force = Annotated[bool, typer.Option(help="Run again even if the record exists, and decode images again.")]
Chance = Annotated[bool, typer.Option("--chance", help="Also the row of a random order of the gallery.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the runs, their cost and the time they take; run nothing.")
]
Quiet = Annotated[bool, typer.Option(help="Show no progress.")]
Style = Annotated[str, typer.Option("--format", help="plain or json.")]
Wide = Annotated[bool, typer.Option("--wide", help="All columns, however wide that is.")]


def _read_file(context: typer.Context, file: Path | None) -> None:
    """Take the options in a YAML file as the defaults of a command; those typed win."""
    if file is None:
        return
    from vbench.core.errors import BadInput, unknown_name
    from vbench.sweep.read import read_located

    known = {
        name.lstrip("-"): option
        for option in context.command.params
        for name in option.opts
        if name.startswith("--") and option.name not in ("config", "help")
    }
    found = read_located(file)
    if not isinstance(found.value, dict):
        raise BadInput(found.error((), "the options of a command are lines such as victim: agw"))
    defaults: dict[str, Any] = {}
    for key, value in found.value.items():
        option = known.get(key.replace("_", "-"))
        if option is None:
            raise BadInput(found.error((key,), str(unknown_name("option", key, known))))
        several, flag = getattr(option, "multiple", False), getattr(option, "is_flag", False)
        if isinstance(value, dict):
            value = [f"{name}={one}" for name, one in value.items()]
        values = value if isinstance(value, list) else [value]
        if any(isinstance(one, dict | list) for one in values) or not (several or len(values) == 1):
            raise BadInput(found.error((key,), "takes one value"))
        if flag != isinstance(values[0], bool):
            raise BadInput(found.error((key,), f"is {'true or false' if flag else 'no true or false'}"))
        texts = [one if flag else str(one) for one in values]
        defaults[str(option.name)] = texts if several else texts[0]
    context.default_map = defaults


_CONFIG = Annotated[
    Path | None,
    typer.Option(
        help="YAML file of options, as in victim: agw; those typed here win.",
        is_eager=True,
        expose_value=False,
        callback=_read_file,
    ),
]


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
            inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_CONFIG),
        ]
        # A documented attribute that type stubs do not have.
        command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        command.__annotations__ = {option.name: option.annotation for option in options}
        return command

    return declare


def _completed(registry: Registry[Any]) -> Callable[[str], list[str]]:
    """What the shell may complete a name to."""

    def names(incomplete: str) -> list[str]:
        return [name for name in registry.names() if name.startswith(incomplete.lower())]

    return names


_COMPLETED = {
    name: _completed(registry)
    for name, registry in (("victim", victims), ("surrogate", victims), ("attack", attacks))
}


def _parameter(name: str, option: Option, several: bool) -> inspect.Parameter:
    default, kind = option.default, list[option.kind] if several else option.kind  # type: ignore[name-defined]
    if default is ...:
        default = inspect.Parameter.empty
    elif several or default is None or option.shown or option.read:
        default, kind = None, kind | None
    flags = [option.flags] if option.flags else []
    shown = option.shown or True
    declared = typer.Option(
        *flags,
        help=option.help,
        show_default=shown,
        min=option.least,
        autocompletion=_COMPLETED.get(name),
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, declared]
    )


def check_style(style: str) -> None:
    """Raise :class:`BadInput` for another :data:`Style` than plain and json."""
    check_format(style, ("plain", "json"))


def checked_request(given: Mapping[str, Any]) -> Request:
    """The request of the values of options; raises :class:`BadInput` for an unknown name or invalid value."""
    # Refuse unknown names before torch is imported, which takes seconds.
    for registry, names in ((victims, ("victim", "surrogate")), (attacks, ("attack",))):
        for text in (text for name in names for text in given[name] or ()):
            registry.check_name(text)
    request = request_of(given)
    request.check_threat()
    return request
