"""The command line as one of several processes, several commands after each other."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from vbench.cli import main


def run(folder: Path, name: str, port: str, arguments: list[str]) -> None:
    """One command; its exit code and what it printed go to files."""
    os.environ["MASTER_PORT"], sys.argv = port, ["vbench", *arguments]
    stem, code = f"{name}-{os.environ['RANK']}", 0
    with (
        (folder / f"{stem}.out").open("w") as out,
        (folder / f"{stem}.err").open("w") as err,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    (folder / f"{stem}.code").write_text(str(code))


if __name__ == "__main__":
    listed = Path(sys.argv[1])
    for line in listed.read_text().splitlines():
        name, port, *arguments = line.split()
        # Every process has a folder of records of its own, to show who writes.
        arguments = [word.replace("RANK", os.environ["RANK"]) for word in arguments]
        run(listed.parent, name, port, arguments)
