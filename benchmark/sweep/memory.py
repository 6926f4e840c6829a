"""Memory that is left: of the machine, or of the container or batch job that this process may not leave."""

from __future__ import annotations

from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")


def available(root: Path = _CGROUPS, cgroup: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes that can still be taken; ``root`` and ``cgroup`` are where Linux describes control groups."""
    free = psutil.virtual_memory().available
    left = [_left(folder) for folder in _folders(root, cgroup)]
    return max(0, min([free, *(bytes_ for bytes_ in left if bytes_ is not None)]))


def resident(pid: int | None) -> int:
    """Bytes that a process holds; 0 for one that is gone."""
    try:
        return psutil.Process(pid).memory_info().rss if pid else 0
    except psutil.Error:
        return 0


def _folders(root: Path, cgroup: Path) -> list[Path]:
    """The folder of this process's control group and of those around it, the limits of which hold too."""
    try:
        lines = cgroup.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if not name or (controllers and "memory" not in controllers.split(",")):
            continue
        base = root / "memory" if controllers else root
        inner = base / name.strip("/")
        found += [one for one in (inner, *inner.parents) if one == base or base in one.parents]
    return found


def _left(folder: Path) -> int | None:
    """What a control group leaves; None where it sets no limit. Version 2, then version 1."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            allowed = int((folder / limit).read_text())
            taken = int((folder / used).read_text())
        except (OSError, ValueError):
            continue
        return allowed - taken + _cache(folder)
    return None


def _cache(folder: Path) -> int:
    """Pages of files that a group can give back at once; they count as taken."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    stat = dict(line.split(" ", 1) for line in lines if " " in line)
    return int(stat.get("inactive_file", stat.get("total_inactive_file", 0)))
