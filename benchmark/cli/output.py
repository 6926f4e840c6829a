"""Where commands print their results: nothing that a terminal would obey gets through."""

from __future__ import annotations

from collections.abc import Sequence

import typer


def put(text: object, nl: bool = True) -> None:
    """Print on standard output; what cannot be seen is shown as an escape, line breaks stay."""
    from vbench.core.text import lines

    typer.echo(lines(str(text)), nl=nl)


def end_with(lost: Sequence[object]) -> None:
    """Exit with 1 if any run was lost, with a line on standard error for each."""
    if not lost:
        return
    from vbench.core.text import lines

    for one in lost:
        typer.echo(lines(f"vbench: lost: {one}"), err=True)
    raise typer.Exit(1)
