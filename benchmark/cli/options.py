"""The options of all commands that run attacks, declared once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from vbench.run.request import Request


def request_of(
    victim: Annotated[list[str], typer.Option(help="Victim, repeatable, or all.")],
    attack: Annotated[
        list[str], typer.Option(help="Attack, repeatable, or all; settings as in pgd[steps=20].")
    ],
    dataset: Annotated[
        str,
        typer.Option(help="synthetic; or sysu, regdb, llcm, a reader's name or ./file.py:Class with --root."),
    ] = "synthetic",
    root: Annotated[Path | None, typer.Option(help="Folder of a real data set.")] = None,
    layout: Annotated[str, typer.Option(help="Layout of the synthetic set.")] = "sysu",
    size: Annotated[
        str | None, typer.Option(help="Size of the synthetic set, height x width.", show_default="64x32")
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(help="Protocol id, repeatable; see vbench data protocols.", show_default="the layout's"),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Checkpoint, released or trained here.")] = None,
    eps: Annotated[
        str | None,
        typer.Option(help="Budget in [0, 1] pixel units.", show_default="8/255, or the attack preset's"),
    ] = None,
    norm: Annotated[str, typer.Option(help="linf or l2.")] = "linf",
    side: Annotated[
        str | None,
        typer.Option(
            help="Which images are changed: query, gallery or both.",
            show_default="query, or the attack preset's",
        ),
    ] = None,
    quantize: Annotated[bool, typer.Option(help="Round adversarial images to 8 bits.")] = True,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Setting for every attack given, as in steps=20.")
    ] = None,
    surrogate: Annotated[
        list[str] | None,
        typer.Option(help="Craft on this victim instead (transfer); repeat for an ensemble."),
    ] = None,
    surrogate_weights: Annotated[
        list[Path] | None, typer.Option(help="Checkpoint of a surrogate, in the same order.")
    ] = None,
    ignore_gates: Annotated[
        bool,
        typer.Option(
            "--ignore-gates",
            help="Run even with Rank-1 at chance level or weights of another split.",
        ),
    ] = False,
    precision: Annotated[
        str,
        typer.Option(help="Precision of victims: float32, bfloat16, float16; auto: the faster one on a GPU."),
    ] = "auto",
    channels_last: Annotated[
        bool | None,
        typer.Option(
            "--channels-last/--no-channels-last",
            help="Memory layout of images.",
            show_default="as precision auto",
        ),
    ] = None,
) -> Request:
    """The request that the options make; raises :class:`BadInput` for an unknown name or invalid value."""
    from vbench.attacks.registry import attacks
    from vbench.core.settings import parse_size, read_settings
    from vbench.victims.registry import victims

    # Refuse unknown names before torch is imported, which takes seconds.
    for registry, texts in ((victims, [*victim, *(surrogate or ())]), (attacks, attack)):
        for text in texts:
            registry.check_name(text)
    request = Request(
        victims=tuple(victim),
        attacks=tuple(attack),
        settings=read_settings(settings or []),
        dataset=dataset,
        root=root,
        layout=layout,
        size=parse_size(size) if size else None,
        protocols=tuple(protocol or ()),
        weights=weights,
        eps=eps,
        norm=norm,
        side=side,
        quantize=quantize,
        surrogates=tuple(surrogate or ()),
        surrogate_weights=tuple(surrogate_weights or ()),
        ignore_gates=ignore_gates,
        precision=precision,
        channels_last=channels_last,
    )
    request.check_threat()
    return request


C = TypeVar("C", bound=Callable[..., None])


def takes_request(command: C) -> C:
    """Decorator: gives a command the options of :func:`request_of`, whose values it takes as ``**given``."""
    shared = inspect.signature(request_of, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True).parameters.values()
    options = [*shared.values(), *(one for one in own if one.kind is not one.VAR_KEYWORD)]
    # A signature has parameters without a default first; the order does not matter to typer.
    options.sort(key=lambda option: option.default is not option.empty)
    # A documented attribute that type stubs do not have.
    command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    command.__annotations__ = {option.name: option.annotation for option in options}
    return command
