"""Imports point downwards: a room imports from lower floors, and from itself. Run by ``make lint``.

Every import counts, also inside functions and for type checking. A room is a package directly below
``vbench``, or a module there; a floor may hold several rooms, which do not know each other.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Where setup.cfg says that packages lie.
FOLDERS = {
    "vbench": "benchmark",
    "vbench.attacks": "attacks",
    "vbench.victims": "victims",
    "vbench.reports": "reports",
}

#: From the ground up.
FLOORS = (
    ("core",),
    ("data", "metrics"),
    ("victims",),
    ("attacks",),
    ("records",),
    ("run", "reports"),
    ("sweep", "audit", "gate"),
    ("api",),
    ("cli",),
    ("__main__",),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def modules(root: Path = ROOT) -> Iterator[tuple[str, Path]]:
    """Every module of vbench by its dotted name, with its file."""
    for package, folder in FOLDERS.items():
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root / folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), path


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a file imports from vbench."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, one.name) for one in node.names if one.name.split(".")[0] == "vbench")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vbench":
            inside = node.module == "vbench"
            yield from ((node.lineno, f"vbench.{one.name}" if inside else node.module) for one in node.names)


def room_of(module: str) -> str | None:
    """The room a dotted name lies in; None for ``vbench`` itself, whose public names are loaded on use."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def upward(root: Path = ROOT) -> list[str]:
    """A line for every import that does not point downwards, and for every room that is on no floor."""
    found = []
    for module, path in modules(root):
        room = room_of(module)
        if room is None:
            continue
        where = path.relative_to(root)
        if room not in FLOOR_OF:
            found.append(f"{where}: the room '{room}' is on no floor; add it to {Path(__file__).name}")
            continue
        for line, name in imported(path):
            other = room_of(name)
            if other in (room, None):
                continue
            if FLOOR_OF.get(other or "", len(FLOORS)) >= FLOOR_OF[room]:
                found.append(f"{where}:{line}: {room} imports {name}, which is not below it")
    return sorted(set(found))


if __name__ == "__main__":
    problems = upward()
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    sys.exit(1 if problems else 0)
