"""Printing of results, with control characters escaped."""

from __future__ import annotations

from collections.abc import Sequence

import typer


def put(text: object, nl: bool = True) -> None:
    """Print on standard output; non-printable characters are escaped, line breaks are not."""
    from vbench.core.text import lines

    typer.echo(lines(str(text)), nl=nl)


def end_with(lost: Sequence[object]) -> None:
    """If runs were lost, print a line for each on standard error and exit with 1."""
    if not lost:
        return
    from vbench.core.text import lines

    for one in lost:
        typer.echo(lines(f"vbench: lost: {one}"), err=True)
    raise typer.Exit(1)
