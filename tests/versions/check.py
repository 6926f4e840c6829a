"""``make versions``: has an attack or a victim changed without its version number?

Runs every built-in attack and victim (:mod:`driver`) with the code that is here and with that of the commit
at which the numbers were last checked, on this machine, and compares bit by bit. No result is kept. That
commit is the last one that changed the file ``checked`` beside this one: looked up in the history, it
outlives rebases, and the file is followed where it moves.

Exit code 0: numbers and results agree; 1: they do not; 2: it cannot be told.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pictures import draw

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DRIVER = HERE.relative_to(ROOT) / "driver.py"


class CannotTell(Exception):
    """There is nothing to compare with; the message says what to do."""


@dataclass
class One:
    """What one attack or victim gave: its version, None where it declares none, and case -> outcome."""

    version: int | None
    cases: dict[str, Any] = field(default_factory=dict)


Results = dict[tuple[str, str], One]


def compare(before: Results, now: Results) -> tuple[list[str], list[str]]:
    """What is wrong, and what is only worth a look, one line each."""
    wrong, notes = [], []
    for key, one in now.items():
        old, what = before.get(key), " ".join(key)
        if old is None:
            continue
        moved = [case for case, outcome in one.cases.items() if old.cases.get(case, outcome) != outcome]
        rose = old.version is not None and one.version is not None and one.version > old.version
        if moved and not rose:
            shown = ", ".join(moved[:5]) + (", ..." if len(moved) > 5 else "")
            wrong.append(f"{what}: other results, and the version is {one.version} still ({shown})")
        elif old.version is not None and (one.version or 0) < old.version:
            wrong.append(f"{what}: the version fell from {old.version} to {one.version}")
        elif rose and not moved:
            notes.append(f"{what}: version {old.version} -> {one.version}, and nothing differs here")
        elif rose:
            notes.append(f"{what}: version {old.version} -> {one.version}; move the checked commit on")
    notes += [f"{' '.join(key)} is gone" for key in before.keys() - now.keys()]
    return wrong, notes


def checked_commit(root: Path = ROOT, file: Path = HERE / "checked") -> str:
    """The last commit that changed the file, which must have changed nothing else."""
    name = file.relative_to(root).as_posix()
    found = git(root, "log", "-1", "--format=%H", "--follow", "--diff-filter=AM", "--", name).strip()
    if not found:
        raise CannotTell(f"no commit of this history has {name}; {_advice(root)}")
    if len(git(root, "log", "-1", "--format=%P", found).split()) != 1:
        raise CannotTell(f"the history ends at {found[:12]}, too early to be sure; {_advice(root)}")
    changed = git(root, "diff-tree", "--no-commit-id", "--name-only", "-r", found).split("\n")
    if len(list(filter(None, changed))) != 1:
        raise CannotTell(
            f"{found[:12]} changes {name} and other files, so its code was compared with nothing; "
            "commit a line in that file alone"
        )
    return found


def _advice(root: Path) -> str:
    shallow = git(root, "rev-parse", "--is-shallow-repository").strip() == "true"
    return "this clone is shallow: git fetch --unshallow" if shallow else "is this a whole clone?"


def git(root: Path, *arguments: str) -> str:
    """What a git command prints; :class:`CannotTell` when it fails."""
    try:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError as error:
        raise CannotTell("make versions needs git") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().split("\n")[-1]
        raise CannotTell(f"git {arguments[0]}: {said}; run this in a clone of the project") from error


@contextlib.contextmanager
def worktree(root: Path, commit: str, folder: Path) -> Iterator[Path]:
    """The files of a commit in ``folder``, for as long as the block runs."""
    git(root, "worktree", "prune")  # what a killed run left
    git(root, "worktree", "add", "--detach", "--force", str(folder), commit)
    try:
        yield folder
    finally:
        git(root, "worktree", "remove", "--force", str(folder))


def package_of(tree: Path, into: Path) -> Path:
    """A folder from which Python imports the package of a tree, laid out as its ``setup.cfg`` says."""
    config = configparser.ConfigParser()
    config.read(tree / "setup.cfg")
    lines = config.get("options", "package_dir", fallback="").split("\n")
    folders = dict(map(str.strip, line.split("=")) for line in lines if "=" in line)
    # Without such a table the tree holds the package under its own name.
    for package, folder in sorted((folders or {"vbench": "vbench"}).items()):
        shutil.copytree(tree / folder, into.joinpath(*package.split(".")), dirs_exist_ok=True)
    return into


def start(tree: Path, driver: Path, folder: Path, pictures: Path) -> subprocess.Popen[bytes]:
    """Run a driver with the package of a tree; what it prints goes to files in ``folder``."""
    folder.mkdir()
    settings = {
        "PYTHONPATH": str(package_of(tree, folder / "package")),
        "VBENCH_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        command = [sys.executable, str(driver), str(pictures)]
        return subprocess.Popen(command, env={**os.environ, **settings}, stdout=out, stderr=err)


def finish(running: subprocess.Popen[bytes], folder: Path, what: str) -> tuple[int, Results]:
    """The number of its inputs and the results of a driver that was started."""
    if running.wait():
        said = (folder / "err").read_text().strip().split("\n")
        raise CannotTell(f"the driver fails with the code of {what}:\n  " + "\n  ".join(said[-5:]))
    printed = json.loads((folder / "out").read_text())
    if not Path(printed["package"]).is_relative_to(folder):
        raise CannotTell(f"the code of {what} was not run, but that in {printed['package']}")
    found: Results = {}
    for kind, name, version, case, outcome in printed["results"]:
        found.setdefault((kind, name), One(version)).cases[case] = outcome
    return printed["inputs"], found


def compared(commit: str, folder: Path, root: Path = ROOT) -> tuple[list[str], list[str]]:
    """:func:`compare` of the code of a commit and of that which is here, run side by side in ``folder``."""
    pictures = draw(folder / "pictures")
    with worktree(root, commit, folder / "tree") as tree:
        # The first commits with numbers to check have no driver yet.
        driver = tree / DRIVER if (tree / DRIVER).is_file() else root / DRIVER
        sides = {commit[:12]: (tree, driver), "the working tree": (root, root / DRIVER)}
        places = {what: folder / f"side{number}" for number, what in enumerate(sides)}
        started = {what: start(*side, places[what], pictures) for what, side in sides.items()}
        try:
            given = [finish(one, places[what], what) for what, one in started.items()]
        finally:
            for one in started.values():
                one.kill()
    (fed, before), (feeding, now) = given
    if fed != feeding:
        raise CannotTell("the driver feeds other inputs than at that commit; move the checked commit on")
    return compare(before, now)


def main() -> int:
    """Compare, say what is wrong, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--against", metavar="COMMIT", help="compare with this commit instead")
    given = parser.parse_args()
    try:
        commit = git(ROOT, "rev-parse", given.against).strip() if given.against else checked_commit()
        with tempfile.TemporaryDirectory() as folder:
            wrong, notes = compared(commit, Path(folder).resolve())
    except CannotTell as reason:
        print(f"versions: {reason}", file=sys.stderr)
        return 2
    for line in (*wrong, *notes):
        print(f"versions: {line}")
    if wrong:
        print(f"versions: compared with {commit[:12]}; raise `version` in the class, or undo the change")
        return 1
    print(f"versions: numbers and results agree with {commit[:12]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
