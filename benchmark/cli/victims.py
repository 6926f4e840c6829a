"""``vbench victims``: weights of victims."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vbench.cli.output import put

app = typer.Typer(help="Weights of victims.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Weights of victims."""


@app.command("convert")
def convert(
    file: Annotated[Path, typer.Argument(help="Checkpoint as its authors released it.")],
    victim: Annotated[str, typer.Option(help="Whose it is; options as in deen[variant=regdb].")],
    out: Annotated[Path, typer.Option(help="File to write; ends in .safetensors.")],
    split: Annotated[
        str | None,
        typer.Option(help="Training split, as in regdb/trial-3.", show_default="read off the file"),
    ] = None,
    force: Annotated[bool, typer.Option(help="Overwrite --out.")] = False,
) -> None:
    """Turn a released checkpoint into a .safetensors file that nothing can hide in.

    The new file says whose weights it holds, with which options, on which split they were trained, and the
    SHA-256 of the file they come from.
    """
    from vbench.errors import BadInput
    from vbench.victim_spec import read_victim
    from vbench.victims.convert import convert_checkpoint

    if out.suffix != ".safetensors":
        raise BadInput(f"--out {out}: weights are written as .safetensors; name the file so")
    if out.exists() and not force:
        raise BadInput(f"--out {out} exists; --force overwrites it")
    if split is not None:
        _check_split(split)
    spec = read_victim(victim)
    metadata = convert_checkpoint(file, spec.name, out, split, spec.options)
    put(f"{out}: {metadata['victim']}, split {metadata['split'] or 'unknown'}")
    put(f"SHA-256 of the tensors: {metadata['sha256']}")
    put(f"SHA-256 of {file.name}: {metadata['released']['sha256']}")


def _check_split(split: str) -> None:
    from vbench.errors import unknown_name

    known = ["sysu", "llcm", *(f"regdb/trial-{number}" for number in range(1, 11))]
    if split not in known:
        raise unknown_name("split", split, known)
