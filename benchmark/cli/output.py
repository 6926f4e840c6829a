"""Where commands print their results: nothing that a terminal would obey gets through."""

from __future__ import annotations

import typer


def put(text: object, nl: bool = True) -> None:
    """Print on standard output; what cannot be seen is shown as an escape, line breaks stay."""
    from vbench.printable import lines

    typer.echo(lines(str(text)), nl=nl)
